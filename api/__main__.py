"""The `iqdb` command, which is also `python -m api`."""

from iqdb_core.interrupted_start import end_silently


def main() -> None:
    """Run the command line; see `api.roles.cli`."""
    end_silently()
    from api.roles import cli  # noqa: PLC0415 - Ctrl-C must have been provided for

    cli.main()


if __name__ == "__main__":
    main()
