"""Which file is at the path of the database, and may it be opened? It may have been moved away or replaced.

SQLite finds the write-ahead log (WAL) of a file by name only: it takes the WAL of a file that is gone for
that of the file which is there now, and writes it into that one. So nothing is opened where this could
happen. Symbolic links are followed, as SQLite does; the WAL lies beside the file that they lead to. Called by
`sqlite_engine`, `sqlite_changeover` and `sqlite_connections`.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqdb_core.store.address import SqliteAddress

FileId = tuple[int, int, str]
"""Device, inode, and where a symbolic link leads ("" for no link): the same file at another path has another
WAL. None stands for no file."""
_O_PATH: Final[int] = getattr(os, "O_PATH", 0)
"""Refers to a file without opening it: to close any other descriptor of a file gives up all locks that SQLite
has on it in this process. Linux only."""
_WAL: Final = "-wal"
_SHM: Final = "-shm"
"""SQLite's suffixes of the WAL and of its index, which is shared memory of all who have the database open."""


class Place:
    """The path of one database, and the file that is served from there.

    Parameters
    ----------
    address : SqliteAddress
    """

    def __init__(self, address: SqliteAddress) -> None:
        self._address = address
        self._name = os.fspath(address.path)
        self._served: FileId | None = None
        self._pinned: _Pinned | None = None
        self._own_files: dict[str, _Pinned] = {}
        self._lock = threading.Lock()

    @property
    def is_served(self) -> bool:
        """Whether a file was opened as a store, and is not closed."""
        return self._served is not None

    @property
    def is_in_place(self) -> bool:
        """Whether the file that is served is still here."""
        return self._served is not None and self._served == self.file()

    def serve(self, file: FileId | None) -> None:
        """Set the file that is served, None for none any more.

        It is pinned: if it is removed, no new file gets its inode and passes for it.
        """
        pinned = None
        if file is not None:
            try:
                pinned = _Pinned(self._address.path)
            except OSError as error:
                raise StoreUnavailable(f"{self._address} cannot be opened ({error.strerror})") from error
        with self._lock:
            if self._pinned is not None:
                self._pinned.release()
            self._pinned, self._served = pinned, file
            self._forget_wal()

    def is_outdated(self, file: FileId | None) -> bool:
        """Whether a connection to this file is of no use any more, because another one is served now."""
        return self.is_served and file != self._served

    def file(self) -> FileId | None:
        """Return which file is here now. Called several times per commit."""
        try:
            found, place = os.lstat(self._name), ""
            if stat.S_ISLNK(found.st_mode):
                place = os.path.realpath(self._name)
                found = os.stat(place)  # noqa: PTH116 - half the cost
        except OSError:
            return None
        return found.st_dev, found.st_ino, place

    def version(self) -> tuple[int, ...]:
        """Return what changes when another file is put here or this one is written; () if there is none."""
        try:
            found = self._address.path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def has_wal(self) -> bool:
        """Return whether a WAL lies here that is not empty."""
        try:
            return self._path_of(_WAL).stat().st_size > 0
        except OSError:
            return False

    def refuse_orphaned_wal(self) -> None:
        """Raise StoreInvalid where a WAL lies without its file: SQLite removes it when it makes the file."""
        if self.has_wal() and self.file() is None:
            name = self._path_of(_WAL).name
            said = f"move the file back beside {name}, or remove that if nobody needs what is in it"
            raise StoreInvalid(f"{self._address} is not there, but its log is: {said}")

    def note_wal(self) -> None:
        """Remember the WAL of the file that is served, which its writer has just opened."""
        with self._lock:
            if not self.is_in_place:
                return
            self._forget_wal()
            for suffix in (_WAL, _SHM):
                with suppress(OSError):  # without a WAL, as on file systems that have no shared memory
                    self._own_files[suffix] = _Pinned(self._path_of(suffix))

    def _forget_wal(self) -> None:
        for pinned in self._own_files.values():
            pinned.release()
        self._own_files.clear()

    @property
    def is_wal_removed(self) -> bool:
        """Whether the WAL of the file that is served was removed or moved, and the file itself is still here.

        Whoever opens the file next makes a new WAL, and does not see what is written into this one.
        """
        with self._lock:
            if all(pinned.is_there for pinned in self._own_files.values()):
                return False
        return self.is_in_place

    @property
    def has_other_wal(self) -> bool:
        """Whether a WAL lies here that is not empty and may not belong to the file that is served."""
        return self.has_wal() and not self._is_own(_WAL)

    @property
    def has_other_wal_files(self) -> bool:
        """Whether somebody has opened the file since its WAL was removed, and may still have it open.

        The removed WAL must not be checkpointed then: pages in the cache of that program would be out of date
        without its knowing.
        """
        return any(self._path_of(suffix).exists() and not self._is_own(suffix) for suffix in (_WAL, _SHM))

    def abandon_outdated_wal(self) -> bool:
        """Empty the removed WAL if somebody has written to the file since, by a new one; returns whether.

        Older pages would otherwise be written over newer ones: SQLite checkpoints a WAL, removed or not, when
        the last connection is closed, if it can read it.
        """
        if not (self.is_wal_removed and self.has_other_wal_files):
            return False
        with self._lock, suppress(OSError):  # without /proc, or if the file has just been moved away
            wal = self._own_files.get(_WAL)
            if wal is not None and wal.is_older_than(self._address.path.stat()):
                wal.empty()
                return True
        return False

    @property
    def has_wal_to_keep(self) -> bool:
        """Whether a new WAL has to stay here when the last connection of ours is closed.

        SQLite then checkpoints the removed WAL. If that was not empty, the new one does not fit the file any
        more, since it was written without what was in the removed one: together they would damage the file.
        """
        if not (self.is_wal_removed and self.has_other_wal):
            return False
        with self._lock:
            wal = self._own_files.get(_WAL)
            return wal is not None and wal.is_empty

    @property
    def may_have_been_away(self) -> bool:
        """Whether the file may have been moved away and back since it was last written to.

        A rename changes only the ctime of a file, a write also the mtime. A chown or chmod looks the same.
        Once a checkpoint has written to it, the WAL that lies here is its own.
        """
        try:
            found = self._address.path.stat()
        except OSError:  # it is away
            return True
        return found.st_ctime_ns != found.st_mtime_ns

    @contextmanager
    def keeping_other_wal(self) -> Iterator[None]:
        """Close connections in this block where another program may have made a new WAL: it stays.

        The last connection to a file removes the WAL by name, even if its own was another one, now removed.
        """
        links = []
        if self.has_wal_to_keep:
            for path in map(self._path_of, (_WAL, _SHM)):
                link = Path(f"{path}~")
                with suppress(OSError):  # not there, or a file system without hard links
                    link.unlink(missing_ok=True)
                    link.hardlink_to(path)
                    links.append((link, path))
        try:
            yield
        finally:
            for link, path in links:
                if path.exists():
                    link.unlink()
                else:
                    link.rename(path)

    def remove_stale_wal(self, *, was_away: bool = False) -> None:
        """Remove an empty WAL, which may be that of the file before, unless others have this file open.

        All who use a WAL share its index: those who still have the file before open would tell those who open
        this one how many pages it has. Afterwards, a removed WAL of the file that is served is forgotten.

        Parameters
        ----------
        was_away : bool
            Whether the file that is served may have been moved away and back, without its WAL: the one that
            lies here may be in use for the file that was here meanwhile.

        Raises
        ------
        StoreUnavailable
            Others have the file open, with the WAL of another file or with one that was removed.
        sqlite3.Error
            The file cannot be opened for writing.
        """
        file, wal, shm = self.file(), self._path_of(_WAL), self._path_of(_SHM)
        is_removed, has_wal, is_there = self.is_wal_removed, self.has_wal(), wal.exists() or shm.exists()
        is_anothers = file != self._served and is_there and not has_wal
        if file is None or not (is_removed or is_anothers):
            return
        try:
            with self._alone(), suppress(OSError):
                shm.unlink(missing_ok=True)
                if not has_wal:  # otherwise SQLite checkpoints it when it closes the file
                    wal.unlink(missing_ok=True)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            wrong = self._what_is_wrong(is_removed=is_removed, was_away=was_away)
            if wrong:
                raise StoreUnavailable(
                    f"{wrong}: stop all programs that have it open, then start them again"
                ) from error
        if is_removed:
            with self._lock:
                self._forget_wal()

    def _what_is_wrong(self, *, is_removed: bool, was_away: bool) -> str:
        """Return what is wrong with the WAL that others use for the file; '' if it is the right one."""
        if was_away:
            return f"{self._address} may have been moved away and back, and is in use"
        if is_removed and not all(self._path_of(suffix).exists() for suffix in (_WAL, _SHM)):
            return f"the log of {self._address} was removed, and is still in use"
        if not is_removed and any(map(self._is_own, (_WAL, _SHM))):
            return (
                f"{self._address} was replaced, and another program opened it with the log of the file before"
            )
        return ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the file during the block, so that nobody opens it; sqlite3.Error if somebody has it open."""
        url = f"{self._address.path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(url, uri=True, timeout=0, isolation_level=None)) as connection:
            # In this mode SQLite neither reads nor makes the shared index of the WAL.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
            yield

    def _is_own(self, suffix: str) -> bool:
        """Return whether the -wal or -shm file here is known to be that of the file that is served."""
        known = self._own_files.get(suffix)
        try:
            found = self._path_of(suffix).stat()
        except OSError:
            return False
        return known is not None and known.inode == (found.st_dev, found.st_ino)

    def _path_of(self, suffix: str) -> Path:
        return Path(f"{self.real_path()}{suffix}")

    def real_path(self) -> Path:
        """Return where the file is, behind symbolic links; they may be changed while it is served."""
        return Path(os.path.realpath(self._name))

    def file_to_open(self) -> FileId | None:
        """Return which file is here, if it may be opened: any, as long as none is served.

        Raises
        ------
        StoreUnavailable
            It is not the file that is served.
        """
        file = self.file()
        if not self.is_served or file == self._served:
            return file
        if file is None:
            raise StoreUnavailable(f"{self._address} is not there any more")
        if self.has_wal():
            raise StoreUnavailable(f"{self._address} was replaced, and {self.remedy()}")
        raise StoreUnavailable(f"{self._address} is being replaced")

    def remedy(self) -> str:
        """Return what is wrong with a WAL that may be that of another file, and what to do."""
        name = self.real_path().name
        files = f"{name}-wal and {name}-shm"
        remove = f"stop the server, move {files} to their file or remove them, and start it again"
        if self._is_own(_WAL):
            return f"the log of the file that was here before lies beside it: {remove}"
        rightful = "if it came with the file, or other programs have the file open, start the server again"
        return f"a log lies beside it: {rightful}; if not, {remove}"

    def successor(self) -> FileId | None:
        """Return the file that replaced the one that is served, if nothing is in a WAL beside it."""
        file = self.file()
        if not self.is_served or file == self._served or self.has_wal():
            return None
        return file


class _Pinned:
    """A file whose inode no other file can get before `release`, even if it is removed; so on Linux only."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._fd = os.open(path, _O_PATH | os.O_CLOEXEC) if _O_PATH else -1
        found = os.stat(self._fd if _O_PATH else path)  # noqa: PTH116 - a descriptor is no path
        self.inode = found.st_dev, found.st_ino

    @property
    def is_there(self) -> bool:
        """Whether it still has the name by which it was found."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - several times per commit, and half the cost
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.inode

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it, as far as that is known."""
        return self._fd >= 0 and os.fstat(self._fd).st_size == 0

    def is_older_than(self, other: os.stat_result) -> bool:
        """Return whether it has no name any more, and the other file was written to later."""
        if self._fd < 0:
            return False
        found = os.fstat(self._fd)
        return found.st_nlink == 0 and found.st_mtime_ns < other.st_mtime_ns

    def empty(self) -> None:
        """Truncate it; it needs no name for that."""
        os.truncate(f"/proc/self/fd/{self._fd}", 0)

    def release(self) -> None:
        """Let others have the inode."""
        if self._fd >= 0:
            os.close(self._fd)
