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


class Place:
    """The place of one database, and the file there that is served.

    Parameters
    ----------
    address : SqliteAddress
    """

    def __init__(self, address: SqliteAddress) -> None:
        self._address = address
        self._served: FileId | None = None
        self._log: tuple[int, int] | None = None
        self._held = self._held_log = -1
        self._holding = threading.Lock()

    @property
    def is_served(self) -> bool:
        """Whether a file here was opened as a store."""
        return self._served is not None

    @property
    def is_kept(self) -> bool:
        """Whether the file that is served stands here still."""
        return self.is_served and self._served == self.file()

    def serve(self, file: FileId | None) -> None:
        """Say which file was opened as a store; until another one is, none can get its number. None ends it.

        Once a file is removed, its inode would otherwise be free for the next one that is made.
        """
        held = -1
        if file is not None:
            try:
                held = _hold(self._address.path)
            except OSError as error:
                raise StoreUnavailable(f"{self._address} cannot be kept ({error.strerror})") from error
        with self._holding:
            _let_go(self._held)
            self._held, self._served = held, file
            self._forget_log()

    def is_left(self, file: FileId | None) -> bool:
        """Whether a file was served here once, and another one is now."""
        return self.is_served and file != self._served

    def file(self) -> FileId | None:
        """Return what stands here now. Called several times per commit."""
        try:
            found, place = os.lstat(self._address.path), ""
            if stat.S_ISLNK(found.st_mode):
                place = os.path.realpath(self._address.path)
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
        found = self._found_log()
        return found is not None and found.st_size > 0

    @property
    def knows_log(self) -> bool:
        """Whether the log of the file that is served would be told from another."""
        return self._log is not None

    def note_log(self) -> None:
        """Remember the log of the file that is served, if it has one; its writer has it open just now."""
        with self._holding:
            if not self.is_kept:
                return
            self._forget_log()
            with suppress(OSError):  # it has none yet
                self._held_log = _hold(self._log_path())
                found = self._found_log()
                self._log = None if found is None else (found.st_dev, found.st_ino)

    def _forget_log(self) -> None:
        _let_go(self._held_log)
        self._held_log, self._log = -1, None

    def _log_path(self) -> Path:
        return Path(f"{self.real_path()}-wal")  # SQLite's own name for it

    def _found_log(self) -> os.stat_result | None:
        try:
            return self._log_path().stat()
        except OSError:
            return None

    def real_path(self) -> Path:
        """Return where the file is: links may lead there, and may lead elsewhere tomorrow."""
        return Path(os.path.realpath(self._address.path))

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
        found = self._found_log()
        if found is not None and self._log == (found.st_dev, found.st_ino):
            return f"the log of the file that was here before lies beside it: {remove}"
        return f"a log lies beside it: if it came with the file, start the server again; if not, {remove}"

    def successor(self) -> FileId | None:
        """Return the file that was put here, if no log of another lies beside it."""
        file = self.file()
        if not self.is_served or file == self._served or self.has_log():
            return None
        return file


def _hold(path: Path) -> int:
    """Keep the inode of a file from being given to another; returns what `_let_go` takes."""
    return os.open(path, _NAME_ONLY | os.O_CLOEXEC) if _NAME_ONLY else -1


def _let_go(held: int) -> None:
    if held >= 0:
        os.close(held)
