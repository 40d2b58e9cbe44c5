"""`python -m worker` is the worker role; `iqdb worker` has its options and runs it."""

from iqdb_core.interrupted_start import end_silently


def main() -> None:
    """Run a worker until it is told to stop; see `worker.role`."""
    end_silently()
    from worker import role  # noqa: PLC0415 - Ctrl-C must have been provided for

    role.main()


if __name__ == "__main__":
    main()
