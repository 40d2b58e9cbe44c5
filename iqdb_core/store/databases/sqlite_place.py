"""Which file stands at the place of the database, and may it be opened? Some were moved away or replaced.

SQLite finds the log of a file by its name only: the log of a file that is gone is taken for that of the file
which stands there now, and written into it. So nothing is opened where that could happen. The name is the one
that SQLite finds behind symbolic links. Called by `sqlite_engine`.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreUnavailable

if TYPE_CHECKING:
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

    def remove_left(self) -> None:
        """Remove the empty log of the file that was served from beside another one. Called with the turn.

        Whoever still has the one before open would share what is kept of the log with those who open this
        one, and tell them how many pages it has.
        """
        with self._holding:
            for end in (_LOG, _LOG_INDEX):
                if self._is_left_here(end):
                    with suppress(OSError):
                        self._path_of(end).unlink()

    def _is_left_here(self, end: str) -> bool:
        """Return whether what lies here is that of the file which is served."""
        known = self._beside.get(end)
        try:
            return known is not None and known.number == _number(self._path_of(end))
        except OSError:
            return False

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
        return f"a log lies beside it: if it came with the file, start the server again; if not, {remove}"

    def successor(self) -> FileId | None:
        """Return the file that was put here, if no log of another lies beside it."""
        file = self.file()
        if not self.is_served or file == self._served or self.has_log():
            return None
        return file


class _Held:
    """A file whose number is given to no other before it is let go, whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _NAME_ONLY | os.O_CLOEXEC) if _NAME_ONLY else -1
        self.number = _number(self._fd if _NAME_ONLY else path)

    def let_go(self) -> None:
        """Hold it no longer."""
        if self._fd >= 0:
            os.close(self._fd)


def _number(file: Path | int) -> tuple[int, int]:
    found = os.stat(file)  # noqa: PTH116 - a descriptor is no path
    return found.st_dev, found.st_ino
