"""Keeps a bounded number of an index's files open for reading.

An index of a hundred million images has more files than a process may have open. The most recently used stay
open, the others are opened again when they are read. Knows nothing about their content. Used by
`signature_rows`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MOST_OPEN: Final = 256


class _File:
    """An open file, and how many threads are reading it."""

    __slots__ = ("fd", "is_dropped", "readers")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.readers = 0
        self.is_dropped = False


class OpenFiles:
    """A limited number of open files, to which those being read may be added; for any number of threads."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._files: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    def reading(self, path: Path) -> _Reading:
        """Return a context manager that gives a descriptor, open inside the block; may raise OSError."""
        return _Reading(self, path)

    def acquire(self, path: Path) -> _File:
        """Return a file that stays open until `release`; for `_Reading`."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _File(_open_quietly(path))
            else:
                self._files.move_to_end(path)
            file.readers += 1
            while len(self._files) > self._most:
                self._drop(next(iter(self._files)))
            return file

    def release(self, file: _File) -> None:
        """Release what `acquire` returned."""
        with self._lock:
            file.readers -= 1
            if file.is_dropped and file.readers == 0:
                os.close(file.fd)

    def drop(self, path: Path) -> None:
        """Close a file as soon as nobody reads it; harmless if it is not open."""
        with self._lock:
            if path in self._files:
                self._drop(path)

    def close(self) -> None:
        """Close all files as soon as nobody reads them; later reads open them again."""
        with self._lock:
            for path in list(self._files):
                self._drop(path)

    def __len__(self) -> int:
        return len(self._files)

    def __del__(self) -> None:
        self.close()

    def _drop(self, path: Path) -> None:
        file = self._files.pop(path)
        file.is_dropped = True
        if file.readers == 0:
            os.close(file.fd)


class _Reading:
    """One read of a file, for `with`; a class, because a generator would cost more than the read."""

    __slots__ = ("_file", "_files", "_path")

    def __init__(self, files: OpenFiles, path: Path) -> None:
        self._files = files
        self._path = path

    def __enter__(self) -> int:
        self._file = self._files.acquire(self._path)
        return self._file.fd

    def __exit__(self, *_: object) -> None:
        self._files.release(self._file)


def _open_quietly(path: Path) -> int:
    """Open a file without updating its access time, which may have to wait for a busy journal."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # only the owner may use O_NOATIME
        return os.open(path, flags)
