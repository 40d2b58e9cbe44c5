"""Commands that are suggested to people, as they can be pasted into their shell. Called by the commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from api.roles.database_file import file_of


def command(*words: str) -> str:
    """Return a command of this program, as it would be found and understood."""
    return shlex.join([_as_typed(), *words])


def on_database(database_url: str) -> list[str]:
    """Return the words that name a database, whatever the environment says.

    The address of a database server may hold a password: its place is left to be filled in.
    """
    return ["--db", "..." if file_of(database_url) is None else database_url]


def _as_typed() -> str:
    """Return what this program was called by, as far as it would be found by that again."""
    typed, found = sys.argv[0], shutil.which("iqdb")
    try:
        is_found = found is not None and Path(found).samefile(typed)
    except OSError:
        is_found = False
    return "iqdb" if is_found or Path(typed).name != "iqdb" else typed
