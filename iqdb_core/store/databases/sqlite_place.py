"""Which file stands at the place of the database, and may it be opened? Some were moved away or replaced.

SQLite finds the log of a file by its name only: the log of a file that is gone is taken for that of the file
which stands there now, and written into it. So nothing is opened where that could happen. Called by
`sqlite_engine`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from iqdb_core.errors import StoreUnavailable

if TYPE_CHECKING:
    from iqdb_core.store.address import SqliteAddress

FileId = tuple[int, int]
"""Device and inode: another file under the same name has another. None stands for no file."""


class Place:
    """The place of one database, and the file there that is served.

    Parameters
    ----------
    address : SqliteAddress
    """

    def __init__(self, address: SqliteAddress) -> None:
        self._address = address
        self._served: FileId | None = None

    @property
    def is_served(self) -> bool:
        """Whether a file here was opened as a store."""
        return self._served is not None

    @property
    def is_kept(self) -> bool:
        """Whether the file that is served stands here still."""
        return self.is_served and self._served == self.file()

    def serve(self, file: FileId | None) -> None:
        """Say which file was opened as a store."""
        self._served = file

    def file(self) -> FileId | None:
        """Return what stands here now."""
        try:
            found = os.stat(self._address.path)  # noqa: PTH116 - several times per commit, and half as dear
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def has_log(self) -> bool:
        """Return whether something is in the log beside the file."""
        try:
            return os.stat(f"{self._address.path}-wal").st_size > 0  # noqa: PTH116 - SQLite's own name for it
        except OSError:
            return False

    def look(self) -> FileId | None:
        """Return what stands here, which may be opened.

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
        """Return what is wrong with a log of another file, and what to do."""
        name = self._address.path.name
        return (
            "the log of the file that was here before lies beside it:"
            f" stop the server, remove {name}-wal and {name}-shm, start it again"
        )

    def successor(self) -> FileId | None:
        """Return the file that was put here, if no log of another lies beside it."""
        file = self.file()
        if not self.is_served or file == self._served or self.has_log():
            return None
        return file
