"""The commands of `iqdb`, one file for what belongs together; `api.roles.cli` lists them."""
