"""The processes of the server: the command line, settings, and one composition root per role."""
