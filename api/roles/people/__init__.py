"""The `iqdb` commands for people: add a folder, search it, look after it."""
