"""How is an SQLite file read and written? Transactions, in turn with other processes, and the end of all.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read beside it.
Whether the file is still the one that was opened is asked before each. Called by `sqlite` only.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreError, StoreUnavailable
from iqdb_core.store.databases.sqlite_changeover import Changeover
from iqdb_core.store.databases.sqlite_connections import LOG_PAGES, SqliteConnections, driver_of, file_of
from iqdb_core.store.databases.sqlite_log import LogFolder
from iqdb_core.store.databases.sqlite_place import Place
from iqdb_core.store.databases.writer_turn import WriterTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

    from iqdb_core.store.address import SqliteAddress, StoreTimeouts

_log = logging.getLogger(__name__)

BRIEFLY_S: Final = 0.5
"""So long the end of a process waits for the turn of another."""


class SqliteEngines:
    """Transactions of one file.

    Parameters
    ----------
    address : SqliteAddress
    timeouts : StoreTimeouts
    open_successor : callable, optional
        See `Changeover`.
    may_create : bool
        Whether the file is made if it is missing.
    """

    def __init__(
        self,
        address: SqliteAddress,
        timeouts: StoreTimeouts,
        open_successor: Callable[[], None] | None = None,
        *,
        may_create: bool = True,
    ) -> None:
        self._address = address
        lock_s = timeouts.lock_s
        # Beside the file itself, where those who have it by another name look as well.
        self._turn = WriterTurn(Path(os.path.realpath(address.path)), lock_s)
        self._place = Place(address)
        self._connections = SqliteConnections(address, self._place, lock_s, may_create=may_create)
        self._changeover = Changeover(
            address, self._place, self._turn, self._connections, lock_s, open_successor
        )
        self._log_folder = LogFolder(lambda: self.fold_log(BRIEFLY_S))

    def clear_log(self) -> None:
        """Leave no log of another file here, before anything is opened; see `Place`."""
        self._place.expect_no_lone_log()
        with self._connections.errors():
            self._place.clear_log()

    def create(self) -> None:
        """Make the file if it is missing, and turn its write-ahead log on."""
        with self._connections.errors(), self._connections.writer() as connection:
            self._place.serve(file_of(connection))
            self._place.note_log()
        if self._place.has_log():  # left by a process that was killed
            self.note_write()

    def note_write(self) -> None:
        """Say that something was written, by this process or another: the log is folded soon afterwards."""
        self._log_folder.note_write()

    # Transactions begin at the driver, which most statements go to: SQLAlchemy begins one at its own first
    # statement only. One that reads ends when its connection goes back to the pool.

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One read transaction: all its statements see the state that the first one saw."""
        with self._connections.errors():
            self._changeover.follow()
            with self._connections.reader.connect() as connection:
                driver_of(connection).execute("BEGIN")
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One write transaction, in turn with the writers of other processes."""
        with self._connections.errors():
            self._changeover.follow()
            with self._turn.taken():
                if self._place.has_lost_log:  # while the turn was waited for
                    raise StoreUnavailable(f"the log of {self._address} is being replaced")
                with self._connections.writer() as connection:
                    file = file_of(connection)
                    driver = driver_of(connection)
                    driver.execute("BEGIN IMMEDIATE")
                    yield connection
                    driver.commit()
            if file != self._place.file() or self._place.has_lost_log:
                # What was written may be in a log that nobody reads any more: it is not acknowledged.
                raise StoreUnavailable(f"{self._address}, or its log, was moved while it was written")
        self.note_write()

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Do as `writing`, for Alembic, which would commit by itself outside of SQLAlchemy's transactions.

        And for millions of rows: their log is folded later, beside what is waited for, and the pages that the
        connection has kept, tens of megabytes, are given back.
        """
        with self._connections.errors(), self._connections.writer() as connection:
            driver_of(connection).execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        try:
            with self.writing() as connection, connection.begin():
                yield connection
        finally:
            with self._connections.errors(), self._connections.writer() as connection:
                driver = driver_of(connection)
                driver.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}").fetchall()
                driver.execute("PRAGMA shrink_memory").fetchall()

    def fold_log(self, wait_s: float | None = None) -> bool:
        """Write what is only in the log into the file itself, so that a copy of the file has it too.

        Parameters
        ----------
        wait_s : float, optional
            How long to wait for the turn, if not as long as for a write.

        Returns
        -------
        bool
            Whether all of it is there now; not while somebody writes or reads an older state.
        """
        if not self._place.has_log() and not self._place.has_lost_log:
            return True
        with self._connections.errors():
            self._changeover.follow()  # while another file is taken over, the log is its own
            with self._turn.taken(wait_s), self._connections.writer() as connection:
                return not self._place.has_lost_log and self._connections.fold(connection)

    def close(self) -> None:
        """Fold the log into the file and give back every connection."""
        self._log_folder.close()
        self._connections.reader.dispose()
        try:
            with self._one_by_one():
                self._close_writer()
        finally:
            self._turn.close()

    @contextlib.contextmanager
    def _one_by_one(self) -> Iterator[None]:
        """Let processes that end at the same moment close the file one by one: else none of them is the last.

        Whoever keeps the turn for longer is writing, and folds the log when he ends.
        """
        with contextlib.ExitStack() as turn:
            if self._place.is_kept:
                with contextlib.suppress(StoreError):
                    turn.enter_context(self._turn.taken(BRIEFLY_S))
            yield

    def _close_writer(self) -> None:
        try:
            if self._place.is_kept:
                self._connections.remove_log()
            elif self._place.is_served:
                # SQLite, too, leaves it where it is then, when the last connection is closed.
                self._tell_log_left()
        finally:
            self._connections.close()
            self._place.serve(None)

    def _tell_log_left(self) -> None:
        if not self._place.has_log():
            return
        if self._place.file() is None:
            said = "its log was left where it is, and belongs to the file that was moved away"
        else:
            said = self._place.remedy()
        _log.warning("%s: %s", self._address, said, extra={"action": "log_left"})
