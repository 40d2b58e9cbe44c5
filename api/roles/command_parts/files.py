"""Files as people name them: which are pictures to be read, and what is kept of their names.

Looks at names and types, never into a file. Called by the commands that read files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from api.roles.command_parts.reasons import reason_of
from iqdb_core.model import MAX_SOURCE_CHARACTERS

_KINDS: Final = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)
MEMBER: Final = "!"
"""Stands in a source between an archive and the name of a file in it."""
_STANDARD_INPUT: Final = Path("/dev/stdin")
_HANDED: Final = (Path("/dev/fd"), Path("/proc/self/fd"))


def path_of(text: str) -> Path:
    """Return the path that a word means: `-` is standard input, `~` and `~name` are homes if known."""
    if text == "-":
        return _STANDARD_INPUT
    return Path(os.path.expanduser(text))  # noqa: PTH111 - that of Path fails for a file named ~x


def is_there(path: Path) -> bool:
    """Tell whether a path names anything, be it a link to nothing, or something that may not be looked at."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def is_file(path: Path) -> bool:
    """Tell whether a regular file is there; False also for names that no file can have."""
    return reason_to_pass(path) is None


def reason_to_pass(path: Path) -> str | None:
    """Return why a path cannot be read as a file; None for a regular file.

    Opening anything else may wait for good, or do things.
    """
    found = looked_at(path)
    return found if isinstance(found, str) else None


def looked_at(path: Path) -> os.stat_result | str:
    """Return what the file system says of a regular file, or why there is none; see `reason_to_pass`."""
    try:
        found = path.stat()
    except ValueError:
        return "no file can have this name"
    except FileNotFoundError as error:
        return "it is a link to nothing" if path.is_symlink() else reason_of(error)
    except OSError as error:
        return reason_of(error)
    if stat.S_ISREG(found.st_mode):
        return found
    return next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "it is no regular file")


def is_handed(path: Path) -> bool:
    """Tell whether a path names a pipe that the shell has opened for this command: `/dev/stdin`, `<(...)`.

    Whoever writes into it was begun by the same person, so that reading it comes to an end.
    """
    try:
        return is_nameless(path) and stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_nameless(path: Path) -> bool:
    """Tell whether a path names whatever is open for this command, and another file for the next one."""
    return path.parent in _HANDED or path == _STANDARD_INPUT


def is_csv(name: str | Path) -> bool:
    """Tell whether a file that is written is to be a CSV, by its name; else it has JSON in lines."""
    return Path(name).suffix.lower() == ".csv"


def is_database(name: str | Path) -> bool:
    """Tell whether a file is or is to be an SQLite database, by its name."""
    return Path(name).suffix.lower() in {".sqlite", ".sqlite3", ".db"}


def source_of(name: str) -> str | None:
    """Return what is kept as source of a file: its name, None if that is too long or has a zero character.

    Bytes that are not UTF-8 become replacement characters; nothing else can be stored or sent. Zero
    characters are in no file's name, but may be in that of an archive's member.
    """
    source = os.fsencode(name).decode("utf-8", "replace")
    return source if len(source) <= MAX_SOURCE_CHARACTERS and "\0" not in source else None
