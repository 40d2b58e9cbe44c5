"""What every role and command says and logs on standard error. Loads no library of servers."""

from __future__ import annotations

import logging
import sys

from api.roles.printable import printable_lines


def say(message: str) -> None:
    """Print a message for the operator on standard error."""
    sys.stderr.write(f"iqdb: {printable_lines(message)}\n")
    sys.stderr.flush()


def configure_logging(level: str) -> None:
    """Send log records to standard error, one line each."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Warns of every oddity of a form: clients could fill the log with that.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # Logs each request to another role, and fetched addresses with their signatures.
    logging.getLogger("httpx").setLevel(logging.WARNING)
