"""Which file stands at the place of the database, and may it be opened? Some were moved away or replaced.

SQLite finds the log of a file by its name only: the log of a file that is gone is taken for that of the file
which stands there now, and written into it. So nothing is opened where that could happen. The name is the one
that SQLite finds behind symbolic links. Called by `sqlite_engine`, `sqlite_changeover` and
`sqlite_connections`.
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
"""Device and inode, and behind a link where it is: another file under the same name has others, and the same
file somewhere else has another log. None stands for no file."""
_NAME_ONLY: Final[int] = getattr(os, "O_PATH", 0)
"""Opens nothing of a file, so that closing it gives up none of SQLite's locks; only Linux has it."""
_LOG: Final = "-wal"
_LOG_INDEX: Final = "-shm"
"""SQLite's own names of what it keeps beside a file: the log, and what all who have it open share of it."""


class Place:
    """The place of one database, and the file there that is served.

    Parameters
    ----------
    address : SqliteAddress
    """

    def __init__(self, address: SqliteAddress) -> None:
        self._address = address
        self._name = os.fspath(address.path)
        self._served: FileId | None = None
        self._held: _Held | None = None
        self._beside: dict[str, _Held] = {}
        self._holding = threading.Lock()

    @property
    def is_served(self) -> bool:
        """Whether a file here was opened as a store."""
        return self._served is not None

    @property
    def is_kept(self) -> bool:
        """Whether the file that is served stands here still."""
        return self._served is not None and self._served == self.file()

    def serve(self, file: FileId | None) -> None:
        """Say which file was opened as a store; until another one is, none can get its number. None ends it.

        Once a file is removed, its inode would otherwise be free for the next one that is made.
        """
        held = None
        if file is not None:
            try:
                held = _Held(self._address.path)
            except OSError as error:
                raise StoreUnavailable(f"{self._address} cannot be kept ({error.strerror})") from error
        with self._holding:
            if self._held is not None:
                self._held.let_go()
            self._held, self._served = held, file
            self._forget_log()

    def is_left(self, file: FileId | None) -> bool:
        """Whether a file was served here once, and another one is now."""
        return self.is_served and file != self._served

    def file(self) -> FileId | None:
        """Return what stands here now. Called several times per commit."""
        try:
            found, place = os.lstat(self._name), ""
            if stat.S_ISLNK(found.st_mode):
                place = os.path.realpath(self._name)
                found = os.stat(place)  # noqa: PTH116 - half as dear
        except OSError:
            return None
        return found.st_dev, found.st_ino, place

    def state(self) -> tuple[int, ...]:
        """Return what changes with the file that stands here, or with what is in it; nothing without one."""
        try:
            found = self._address.path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def has_log(self) -> bool:
        """Return whether something is in the log beside the file."""
        try:
            return self._path_of(_LOG).stat().st_size > 0
        except OSError:
            return False

    def expect_no_lone_log(self) -> None:
        """Raise StoreInvalid where a log is and no file: SQLite removes it when it makes the file."""
        if self.has_log() and self.file() is None:
            name = self._path_of(_LOG).name
            said = f"put the file back to {name}, or remove that if nobody needs what is in it"
            raise StoreInvalid(f"{self._address} is not there, but its log is: {said}")

    def note_log(self) -> None:
        """Remember the log of the file that is served; its writer has it open just now."""
        with self._holding:
            if not self.is_kept:
                return
            self._forget_log()
            for end in (_LOG, _LOG_INDEX):
                with suppress(OSError):  # some file systems can have none
                    self._beside[end] = _Held(self._path_of(end))

    def _forget_log(self) -> None:
        for held in self._beside.values():
            held.let_go()
        self._beside.clear()

    @property
    def has_lost_log(self) -> bool:
        """Whether the log of the file that is served was removed, and the file stands here still.

        Who opens the file next makes another one, and knows nothing of what those write who have it open.
        """
        with self._holding:
            for held in self._beside.values():
                if held.has_names and os.fstat(held.fd).st_nlink == 0:
                    return self.is_kept
        return False

    @property
    def has_another_log(self) -> bool:
        """Whether a log lies here that is not known to be that of the file which is served."""
        return any(self._path_of(end).exists() and not self._is_left_here(end) for end in (_LOG, _LOG_INDEX))

    @property
    def is_in_another_log(self) -> bool:
        """Whether something is in a log here that is not known to be that of the file which is served."""
        return self.has_log() and not self._is_left_here(_LOG)

    @property
    def may_have_been_away(self) -> bool:
        """Whether the file got a name, owner or mode after anybody had last written to it.

        While nobody looked, it may have been somewhere else, and another file here.
        """
        try:
            found = self._address.path.stat()
        except OSError:  # it is away
            return True
        return found.st_ctime_ns != found.st_mtime_ns

    @contextmanager
    def keeping_log(self) -> Iterator[None]:
        """Keep a log that another program has made for the block, in which connections are closed.

        SQLite removes a log by its name with the last connection to a file, even if that used one which was
        removed before.
        """
        kept = []
        if self.has_lost_log and self.is_in_another_log:
            for path in map(self._path_of, (_LOG, _LOG_INDEX)):
                with suppress(OSError):  # not there, or a file system without links
                    Path(f"{path}~").unlink(missing_ok=True)
                    Path(f"{path}~").hardlink_to(path)
                    kept.append(path)
        try:
            yield
        finally:
            for path in kept:
                if path.exists():
                    Path(f"{path}~").unlink()
                else:
                    Path(f"{path}~").rename(path)

    def clear_log(self, *, was_away: bool = False) -> None:
        """Remove an empty log from beside a file that nobody has open: it may be of the file before.

        Whoever still has that one open would share what is kept of the log with those who open this one, and
        tell them how many pages it has. A log that was removed is lost no more then.

        Parameters
        ----------
        was_away : bool
            Whether the file that is served was somewhere else meanwhile, and comes back without its log: what
            lies here may be the log of the file that was here, and be used still.

        Raises
        ------
        StoreUnavailable
            Others have the file open, with the log of another one or with one that was removed.
        sqlite3.Error
            The file cannot be opened for writing.
        """
        file, log, log_index = self.file(), self._path_of(_LOG), self._path_of(_LOG_INDEX)
        is_lost, has_log, is_there = self.has_lost_log, self.has_log(), log.exists() or log_index.exists()
        has_lost_its_own = is_lost or was_away
        is_anothers = file != self._served and is_there and not has_log
        if file is None or not (has_lost_its_own or is_anothers):
            return
        try:
            with self._alone(), suppress(OSError):
                log_index.unlink(missing_ok=True)
                if not has_log:  # else SQLite folds it now
                    log.unlink(missing_ok=True)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            wrong = self._wrong_log(is_lost=is_lost, was_away=was_away)
            if wrong:
                raise StoreUnavailable(f"{wrong}: stop all that have it open, start them again") from error
        if has_lost_its_own:
            with self._holding:
                self._forget_log()

    def _wrong_log(self, *, is_lost: bool, was_away: bool) -> str:
        """Return what is wrong with the log by which others have the file open; nothing if it is its own."""
        if was_away:
            return f"{self._address} was moved away and back, and somebody else has it open"
        if is_lost and not all(self._path_of(end).exists() for end in (_LOG, _LOG_INDEX)):
            return f"the log of {self._address} was removed, and somebody still uses it"
        if not is_lost and any(map(self._is_left_here, (_LOG, _LOG_INDEX))):
            return f"{self._address} was replaced, and somebody opened it with the log of the file before"
        return ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody open the file for the block; sqlite3.Error if somebody has it open."""
        url = f"{self._address.path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(url, uri=True, timeout=0, isolation_level=None)) as connection:
            # Who is alone shares nothing, and so neither reads nor makes what is shared of the log.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
            yield

    def _is_left_here(self, end: str) -> bool:
        """Return whether what lies here is that of the file which is served."""
        known = self._beside.get(end)
        try:
            found = self._path_of(end).stat()
        except OSError:
            return False
        return known is not None and known.number == (found.st_dev, found.st_ino)

    def _path_of(self, end: str) -> Path:
        return Path(f"{self.real_path()}{end}")

    def real_path(self) -> Path:
        """Return where the file is: links may lead there, and may lead elsewhere tomorrow."""
        return Path(os.path.realpath(self._name))

    def look(self) -> FileId | None:
        """Return what stands here, which may be opened: anything, as long as nothing is served.

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
        if self.has_log():
            raise StoreUnavailable(f"{self._address} was replaced, and {self.remedy()}")
        raise StoreUnavailable(f"{self._address} is being replaced")

    def remedy(self) -> str:
        """Return what is wrong with a log that may be of another file, and what to do."""
        name = self.real_path().name
        remove = f"stop the server, remove {name}-wal and {name}-shm, start it again"
        if self._is_left_here(_LOG):
            return f"the log of the file that was here before lies beside it: {remove}"
        rightful = "if it came with the file, or others have that open, start the server again"
        return f"a log lies beside it: {rightful}; if not, {remove}"

    def successor(self) -> FileId | None:
        """Return the file that was put here, if no log of another lies beside it."""
        file = self.file()
        if not self.is_served or file == self._served or self.has_log():
            return None
        return file


class _Held:
    """A file whose number is given to no other before it is let go, whatever becomes of its name.

    `has_names` says whether it is known how many names it has; on Linux only, where the file system counts.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, _NAME_ONLY | os.O_CLOEXEC) if _NAME_ONLY else -1
        found = os.stat(self.fd if _NAME_ONLY else path)  # noqa: PTH116 - a descriptor is no path
        self.number = found.st_dev, found.st_ino
        self.has_names = _NAME_ONLY > 0 and found.st_nlink > 0

    def let_go(self) -> None:
        """Hold it no longer."""
        if self.fd >= 0:
            os.close(self.fd)
