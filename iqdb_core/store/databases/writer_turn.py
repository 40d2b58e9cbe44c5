"""Whose turn is it to write to the SQLite file? Fair turns for several processes, with a deadline.

SQLite lets writers try again at random: one that writes all the time can starve the others until they give
up. Here whoever waits holds the place behind the writer, so that a writer which has just finished comes after
it. Two locks in files beside the database, which are there while it is open. Called by `sqlite_engine`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_PAUSE_S: Final = 0.0005
_LONGEST_PAUSE_S: Final = 0.005


class WriterTurn:
    """The turn of one store to write to a file; of its own threads one at a time has it.

    Parameters
    ----------
    path : Path
        The database; its directory has to be writable, as SQLite wants it too.
    timeout_s : float
        How long to wait for a turn.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._threads = threading.Lock()
        self._next, self._writer = _locks_beside(path)

    @contextlib.contextmanager
    def taken(self, timeout_s: float | None = None) -> Iterator[None]:
        """Wait for the turn, for another time than usual if told, and keep it for the block.

        Raises
        ------
        StoreUnavailable
            Others kept it for too long.
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
    def is_possible(self) -> bool:
        """Whether the folder of the database is there."""
        return self._next.has_folder

    def move(self, path: Path) -> None:
        """Take turns beside another file from now on. Never called with the turn."""
        with self._threads:
            self.close()
            self._next, self._writer = _locks_beside(path)

    def close(self) -> None:
        """Remove the files, if nobody else uses them."""
        for lock in (self._next, self._writer):
            lock.remove()


def _locks_beside(path: Path) -> tuple[_LockFile, _LockFile]:
    """Return the locks of a database: that of who is next, and that of who writes."""
    return _LockFile(path, "next"), _LockFile(path, "writer")


class _LockFile:
    """One lock between processes, and between handles of one process."""

    def __init__(self, database: Path, end: str) -> None:
        self._database = database
        self._path = database.with_name(f".{database.name}.{end}")
        self._fd = -1
        self._number = -1, -1

    @property
    def has_folder(self) -> bool:
        """Whether there is a folder for it."""
        return self._path.parent.is_dir()

    def acquire(self, end: float) -> bool:
        """Try until a moment of `time.monotonic`."""
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
            self._number = found.st_dev, found.st_ino
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # some network mounts have no locks
            raise StoreUnavailable(self._trouble("locked", error)) from error
        if self._is_current():
            return True
        # Whoever closed last removed the file: a lock on it keeps nobody out.
        os.close(self._fd)
        self._fd = -1
        return False

    def _opened(self) -> int:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except PermissionError as error:
            raise StoreInvalid(self._trouble("opened", error)) from error
        except OSError as error:
            raise StoreUnavailable(self._trouble("opened", error)) from error
        with contextlib.suppress(OSError):  # another user's, who has done so, or a mount that keeps no rights
            self._share(fd)
        return fd

    def _trouble(self, done: str, error: OSError) -> str:
        return f"the lock file {self._path} beside the database cannot be {done} ({error.strerror})"

    def _share(self, fd: int) -> None:
        """Let all who may write to the database have the lock, as SQLite does with its log.

        Else a command of root's would shut the user of a server out, for good if it was killed.
        """
        database, found = os.stat(self._database), os.fstat(fd)  # noqa: PTH116 - beside the other
        if found.st_nlink != 1 or found.st_size:
            return  # somebody has linked another file here
        if os.geteuid() == 0:
            os.fchown(fd, database.st_uid, database.st_gid)
        os.fchmod(fd, stat.S_IMODE(database.st_mode) & 0o666)

    def _is_current(self) -> bool:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - twice per commit, and half as dear
        except OSError:  # `_opened` says what is wrong, if it is wrong still
            return False
        return (found.st_dev, found.st_ino) == self._number

    def release(self) -> None:
        """Let the next one have it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def remove(self) -> None:
        """Close the file, and remove it unless somebody holds it, or this user may not."""
        if self._fd < 0:
            return
        try:
            if self._try():
                with contextlib.suppress(OSError):  # left there, it keeps nobody out
                    self._path.unlink()
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
