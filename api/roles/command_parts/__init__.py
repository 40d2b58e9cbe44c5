"""What the `iqdb` commands that are no servers work with: a database or a server, and files."""
