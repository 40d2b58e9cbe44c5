"""Temporary folders that are cleaned up even after their process was killed.

A folder in use contains a locked file. Creating one first removes folders of the same kind whose lock is
free. Called by the index without a directory of its own, by warming up and by exports of files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final, Self

_LOCK_NAME: Final = "lock"
_SETTLED_S: Final = 60.0
"""A folder younger than this may not have its lock yet."""


def remove_abandoned(kind: str) -> None:
    """Remove folders of a kind whose process was killed; only those of this user."""
    for folder in Path(tempfile.gettempdir()).glob(f"iqdb-{kind}-*"):
        try:
            found = folder.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if is_ours and time.time() - found.st_mtime > _SETTLED_S:
                _remove_unheld(folder)
        except OSError:  # another process removed it first, or it cannot be removed
            continue


def _remove_unheld(folder: Path) -> None:
    fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(fd)


class TemporaryFolder:
    """A folder that exists until it is closed or its process ends.

    Parameters
    ----------
    kind : str
        Part of its name.
    """

    def __init__(self, kind: str) -> None:
        remove_abandoned(kind)
        self.path = Path(tempfile.mkdtemp(prefix=f"iqdb-{kind}-"))
        self._lock_fd = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove it with its content. Closing twice is harmless."""
        if self._lock_fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
