"""`python -m api` is the `iqdb` command."""

from api.roles.cli import main

main()
