"""Finds the file below a folder that an image came from.

Never leaves the folder, whatever a source or a link says. Knows no
image format. Called by `thumbnails`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from iqdb_core.errors import WrongUsage

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Non-blocking: the file might be a pipe."""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Identity and version of a file; equal as long as the file does not change."""

    path: Path
    size: int
    changed_ns: int


class PictureFolder:
    """All regular files below one folder, except those of the database.

    Parameters
    ----------
    folder : Path
    database : Path, optional
        An SQLite file that this process uses. It and the files beside it with its name are never opened
        here: closing one of them would release all locks that SQLite holds on it.

    Raises
    ------
    WrongUsage
        It is not a folder, or cannot be read.
    """

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self._database = None if database is None else os.path.realpath(database)
        try:
            self._root = folder.resolve(strict=True)
            is_readable = self._root.is_dir() and os.access(self._root, os.R_OK | os.X_OK)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            is_readable = False
        if not is_readable:
            raise WrongUsage(f"--pictures is a folder that can be read, not {str(folder)!r}")

    def find(self, source: str) -> FileVersion | None:
        """Return the file that a source names, absolute or relative to the folder; None if there is none.

        Links are resolved; the file that they lead to must be below the folder too.
        """
        try:
            path = (self._root / _path_in(source)).resolve(strict=True)
            if not path.is_relative_to(self._root) or self._is_of_database(path):
                return None
            state = path.stat()
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            return None
        if not stat.S_ISREG(state.st_mode):
            return None
        return FileVersion(path, state.st_size, state.st_mtime_ns)

    def _is_of_database(self, path: Path) -> bool:
        return self._database is not None and os.fspath(path).startswith(self._database)

    def read(self, file: FileVersion) -> bytes | None:
        """Return a file's content; None if it has changed since it was found."""
        try:
            descriptor = os.open(file.path, _OPEN)
        except OSError:
            return None
        with open(descriptor, "rb") as opened:  # noqa: PTH123 - opens a descriptor
            # The file may have been replaced since it was found, so the opened file is checked once more.
            state = os.fstat(descriptor)
            is_same = stat.S_ISREG(state.st_mode) and self.find(str(file.path)) == file
            if not is_same or (state.st_size, state.st_mtime_ns) != (file.size, file.changed_ns):
                return None
            try:
                return opened.read(file.size)
            except OSError:
                return None


def _path_in(source: str) -> str:
    return unquote(urlsplit(source).path) if source.startswith("file://") else source
