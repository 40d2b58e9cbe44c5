"""The web front end and the query node: HTTP in, HTTP out."""
