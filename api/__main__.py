"""`python -m api` is the `iqdb` command."""

from api.cli import main

main()
