"""The HTTP face: routes by subject, what requests say and answers look like, limits, errors, the page."""
