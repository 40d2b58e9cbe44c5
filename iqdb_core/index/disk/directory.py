"""The directory of one index: its lock, the names of its files, and the removal of leftovers.

Never reads the content of files. Called by `ImageIndex`, the sealer and the checkpoint.

    lock                       held while an index has the directory open
    newest                     the newest change that the index held
    manifest                   the checkpoint: it names the files that belong to it
    00000007.rows              signatures of segment 7
    00000007.words             searchable form of segment 7
    *.new                      a file that is being written
    refused/                   files of the last refused checkpoint, until the next one is saved
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.open_files import OpenFiles
from iqdb_core.temporary import TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = logging.getLogger(__name__)

LOCK_NAME: Final = "lock"
MANIFEST_NAME: Final = "manifest"
NEWEST_NAME: Final = "newest"
REFUSED_NAME: Final = "refused"
_OURS: Final = re.compile(r"(\d{8,})\.(rows|words)(\.new)?|manifest(\.new)?")


class IndexDirectory:
    """A directory used by this process alone.

    Parameters
    ----------
    path : Path or None
        Created if absent; None makes a temporary one, which `close` removes.

    Raises
    ------
    IndexStateError
        It is open in another index, of this or another process.
    OSError
        It cannot be created or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._folder = None
        if path is None:
            self._folder = TemporaryFolder("index")
            path = self._folder.path / "index"
        self.path = path
        self.files = OpenFiles()
        """Open files of this directory."""
        self._lock_fd = -1
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_fd = self._locked()
            taken = (int(match[1]) for name in self._names() if (match := _OURS.fullmatch(name)) and match[1])
            self._numbers = itertools.count(max(taken, default=0) + 1)
        except BaseException:
            self.close()
            raise

    @property
    def is_temporary(self) -> bool:
        """Whether `close` removes it."""
        return self._folder is not None

    @property
    def manifest(self) -> Path:
        """The checkpoint's manifest."""
        return self.path / MANIFEST_NAME

    @property
    def newest(self) -> Path:
        """The record of the newest change; see `newest`."""
        return self.path / NEWEST_NAME

    def next_number(self) -> int:
        """Return a segment number that no file here has; may be called from any thread."""
        return next(self._numbers)

    def rows(self, number: int) -> Path:
        """Return the path of a segment's signatures."""
        return self.path / f"{number:08d}.rows"

    def words(self, number: int) -> Path:
        """Return the path of a segment's searchable form."""
        return self.path / f"{number:08d}.words"

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove the files of segments; reads under way finish, but the files cannot be opened again."""
        for number in numbers:
            self.rows(number).unlink(missing_ok=True)
            self.files.drop(self.rows(number))  # after unlinking, so that it is not opened again
            self.words(number).unlink(missing_ok=True)

    def remove_leftovers(self, numbers: set[int]) -> None:
        """Remove all files of the index but the manifest and those of `numbers`, while none is written."""
        for name in self._names():
            match = _OURS.fullmatch(name)
            is_kept = name == MANIFEST_NAME or (
                match is not None and match[1] is not None and int(match[1]) in numbers and not match[3]
            )
            if match is not None and not is_kept:
                (self.path / name).unlink()

    def set_aside(self) -> None:
        """Move manifest and segment files to `refused`, where they can be examined.

        If that fails, as on a full disk, they are removed: the index does not need them.
        """
        refused = self.path / REFUSED_NAME
        shutil.rmtree(refused, ignore_errors=True)
        ours = [self.path / name for name in self._names() if _OURS.fullmatch(name)]
        try:
            refused.mkdir()
            for file in ours:
                file.rename(refused / file.name)
        except OSError as error:
            _log.warning(
                "the files of the refused checkpoint cannot be kept and are removed: %s",
                error,
                extra={"action": "refused_removed"},
            )
            for file in ours:
                file.unlink(missing_ok=True)

    def forget_refused(self) -> None:
        """Remove what `set_aside` kept."""
        shutil.rmtree(self.path / REFUSED_NAME, ignore_errors=True)

    def sync(self) -> None:
        """Make created and removed names durable."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Release the lock; remove a temporary directory. Closing twice is harmless."""
        self.files.close()
        if self._folder is not None:
            self._folder.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir())

    def _locked(self) -> int:
        fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            raise IndexStateError(
                f"the index directory {self.path} is in use by process {owner}; each needs its own"
            ) from None
        with suppress(OSError):  # a full disk: the error of a refused process then cannot name the holder
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
