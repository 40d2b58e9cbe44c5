"""Who may use a file that is made beside a database? Everybody who may use the database.

A command that root runs would otherwise make files that the user of a server cannot open. Called by
`writer_turn`, and by commands that keep a file beside a database.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def share_like(database: Path, fd: int) -> None:
    """Give an open file the owner and mode of the database, as SQLite does with the WAL.

    Parameters
    ----------
    database : Path
    fd : int
        Of a file that this program has made, or that is known to be no hard link to another one.

    Raises
    ------
    OSError
        The file belongs to another user, the mount has no owners or modes, or there is no database.
    """
    found = database.stat()
    if os.geteuid() == 0:
        os.fchown(fd, found.st_uid, found.st_gid)
    os.fchmod(fd, stat.S_IMODE(found.st_mode) & 0o666)
