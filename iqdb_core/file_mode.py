"""Tells what a path is, or why that cannot be told.

From Python 3.14 on `Path.exists` and its like say no for a folder that may not be entered and for a name that
is too long. Whoever opens a database or makes a file must tell these from a file that is not there.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_NOTHING_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def mode_of(path: Path) -> int | None:
    """Return type and permissions of what a path leads to, as `stat` has them; None if nothing is there.

    Raises
    ------
    OSError
        That cannot be told: a folder above may not be entered, the name is too long, the disk fails.
    """
    try:
        return path.stat().st_mode
    except ValueError:  # no file has such a name
        return None
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise
