"""Whose turn is it to write to the SQLite file? Fair turns for several processes, with a deadline.

Writers that find an SQLite file locked just poll it: one that writes all the time can starve the others until
they give up. So there are two locks, in files beside the database which exist while it is open: the writer
holds one, and the first of those who wait the other, so that a writer which wants to write again comes after
it. Called by `sqlite_engine` and `sqlite_changeover`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.store.ownership import share_like

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_PAUSE_S: Final = 0.0005
_LONGEST_PAUSE_S: Final = 0.005
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC


class WriterTurn:
    """The turn of one store to write to a file; one of its threads at a time has it.

    Parameters
    ----------
    path : Path
        The database; its directory has to be writable, as it has to be for SQLite.
    timeout_s : float
        How long to wait for a turn.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._threads = threading.Lock()
        self._next, self._writer = _locks_beside(path)

    @contextlib.contextmanager
    def taken(self, timeout_s: float | None = None) -> Iterator[None]:
        """Wait for the turn, and keep it during the block.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait, if not as long as usual.

        Raises
        ------
        StoreUnavailable
            Others kept it for too long, or a lock file cannot be used.
        StoreInvalid
            This user may not open a lock file.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        end = time.monotonic() + timeout_s
        if not self._threads.acquire(timeout=timeout_s):
            raise self._busy(timeout_s)
        try:
            if not self._wait(end):
                raise self._busy(timeout_s)
            try:
                yield
            finally:
                self._writer.release()
        finally:
            self._threads.release()

    def _wait(self, end: float) -> bool:
        if not self._next.acquire(end):
            return False
        try:
            return self._writer.acquire(end)
        finally:
            self._next.release()

    def _busy(self, timeout_s: float) -> StoreUnavailable:
        return StoreUnavailable(f"other writers kept the database for {timeout_s:g} s")

    @property
    def has_folder(self) -> bool:
        """Whether the folder of the lock files exists."""
        return self._next.has_folder

    def move(self, path: Path) -> None:
        """Take turns beside another file from now on. Never called with the turn."""
        with self._threads:
            self.close()
            self._next, self._writer = _locks_beside(path)

    def close(self) -> None:
        """Close the lock files, and remove those that nobody else uses."""
        for lock in (self._next, self._writer):
            lock.remove()


def _locks_beside(path: Path) -> tuple[_LockFile, _LockFile]:
    """Return the locks of a database: that of the next writer, and that of the present one."""
    return _LockFile(path, "next"), _LockFile(path, "writer")


class _LockFile:
    """One lock between processes, and between handles of one process."""

    def __init__(self, database: Path, suffix: str) -> None:
        self._database = database
        self._path = database.with_name(f".{database.name}.{suffix}")
        self._fd = -1
        self._inode = -1, -1

    @property
    def has_folder(self) -> bool:
        """Whether its folder exists."""
        return self._path.parent.is_dir()

    def acquire(self, end: float) -> bool:
        """Lock the file; returns False if that is not possible until a moment of `time.monotonic`."""
        pause_s = _FIRST_PAUSE_S
        while not self._try():
            if time.monotonic() > end:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return True

    def _try(self) -> bool:
        if self._fd < 0:
            self._fd = self._opened()
            found = os.fstat(self._fd)
            self._inode = found.st_dev, found.st_ino
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # some network mounts have no locks
            raise StoreUnavailable(self._trouble("locked", error)) from error
        if self._is_current():
            return True
        # The file was removed by the last process to close it: a lock on it excludes nobody.
        os.close(self._fd)
        self._fd = -1
        return False

    def _opened(self) -> int:
        try:
            fd = self._open()
        except PermissionError as error:
            raise StoreInvalid(self._trouble("opened", error)) from error
        except OSError as error:
            raise StoreUnavailable(self._trouble("opened", error)) from error
        with contextlib.suppress(OSError):  # made by another user, who shared it, or no owners here
            self._share(fd)
        return fd

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o666)
        except PermissionError:
            # Another user has made it, and may be about to share it. Only network mounts refuse to lock it.
            with contextlib.suppress(OSError):
                return os.open(self._path, os.O_RDONLY | _SAFELY)
            raise

    def _trouble(self, done: str, error: OSError) -> str:
        return f"the lock file {self._path} beside the database cannot be {done} ({error.strerror})"

    def _share(self, fd: int) -> None:
        """Let all have the lock who may write to the database.

        Otherwise a command that root runs would lock the user of a server out, for good if it was killed.
        """
        found = os.fstat(fd)
        if found.st_nlink == 1 and not found.st_size:  # no hard link to a file that must not be given away
            share_like(self._database, fd)

    def _is_current(self) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - twice per commit, at half the cost
        except OSError:  # if it still fails, `_opened` says why
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def release(self) -> None:
        """Unlock the file."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError:  # some network mounts; closing it unlocks it, too
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close the file, and remove it unless somebody has locked it or this user may not."""
        if self._fd < 0:
            return
        try:
            if self._try():
                with contextlib.suppress(OSError):  # what is left locks nobody out
                    self._path.unlink()
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
