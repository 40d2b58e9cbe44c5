"""Files of an index that are open for reading, a bounded number at a time.

Answers: which descriptor reads this file now? An index of a hundred million images has more files than a
process may have open: those that were used last stay open, the others are opened again when they are read.
Knows nothing of what is in them. Used by `signature_rows`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    """At most so many open files, beside those that are being read; for any number of threads."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._files: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, path: Path) -> Iterator[int]:
        """Yield a descriptor of a file, open at least until the block ends; OSError if it cannot be."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _File(_open_quietly(path))
            else:
                self._files.move_to_end(path)
            file.readers += 1
            while len(self._files) > self._most:
                self._drop(next(iter(self._files)))
        try:
            yield file.fd
        finally:
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


def _open_quietly(path: Path) -> int:
    """Open a file so that reads write nothing: noting the time of access can wait for a busy journal."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # only the owner may ask for it
        return os.open(path, flags)
