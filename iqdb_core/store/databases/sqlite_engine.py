"""How is an SQLite file read and written? Transactions, in turn with other processes, and how it is closed.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read at the same
time. Each transaction first checks that the file is still the one that was opened. Called by `sqlite` only.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreError, StoreUnavailable
from iqdb_core.store.databases.sqlite_changeover import Changeover
from iqdb_core.store.databases.sqlite_checkpointer import Checkpointer
from iqdb_core.store.databases.sqlite_connections import (
    CHECKPOINT_PAGES,
    SqliteConnections,
    driver_of,
    file_of,
)
from iqdb_core.store.databases.sqlite_place import Place
from iqdb_core.store.databases.writer_turn import WriterTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

    from iqdb_core.store.address import SqliteAddress, StoreTimeouts

_log = logging.getLogger(__name__)

SHORT_WAIT_S: Final = 0.5
"""How long checkpoints in the background, and a process that closes the file, wait for their turn."""


class SqliteEngines:
    """Transactions of one file.

    Parameters
    ----------
    address : SqliteAddress
    timeouts : StoreTimeouts
    open_successor : callable, optional
        See `Changeover`.
    may_create : bool
        Whether a missing file is created.
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
        # Beside the file itself, where those who open it by a symbolic link look as well.
        self._turn = WriterTurn(Path(os.path.realpath(address.path)), lock_s)
        self._place = Place(address)
        self._connections = SqliteConnections(address, self._place, lock_s, may_create=may_create)
        self._changeover = Changeover(
            address, self._place, self._turn, self._connections, lock_s, open_successor
        )
        self._checkpointer = Checkpointer(lambda: self.checkpoint_wal(SHORT_WAIT_S))

    def remove_stale_wal(self) -> None:
        """Remove the WAL of another file, before anything is opened; see `Place`."""
        self._place.refuse_orphaned_wal()
        with self._connections.errors():
            self._place.remove_stale_wal()

    def create(self, *, is_new: bool) -> None:
        """Turn WAL mode on; create the file if it is new. One that was there at first is not made again."""
        self._connections.may_create &= is_new
        with self._connections.errors(), self._connections.writer() as connection:
            self._place.serve(file_of(connection))
            self._place.note_wal()
        if self._place.has_wal():  # left by a process that was killed
            self.note_write()

    def note_write(self) -> None:
        """Have the WAL checkpointed soon: something was written, by this process or another."""
        self._checkpointer.note_write()

    # Transactions are begun on the driver, which gets most statements: SQLAlchemy would begin one only at the
    # first statement of its own. One that reads ends when its connection goes back to the pool.

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
                if self._place.is_wal_removed:  # while the turn was waited for
                    raise StoreUnavailable(f"the log of {self._address} is being replaced")
                with self._connections.writer() as connection:
                    file = file_of(connection)
                    driver = driver_of(connection)
                    driver.execute("BEGIN IMMEDIATE")
                    yield connection
                    driver.commit()
            if file != self._place.file() or self._place.is_wal_removed:
                # What was written may be in a WAL that nobody reads any more: it is not acknowledged.
                raise StoreUnavailable(f"{self._address}, or its log, was moved while it was written")
        self.note_write()

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Do as `writing`, in a transaction of SQLAlchemy, without which Alembic would commit by itself.

        Millions of rows may be written: they are checkpointed later, in the background, and the page cache of
        the connection, tens of megabytes, is freed.
        """
        with self._connections.errors(), self._connections.writer() as connection:
            driver_of(connection).execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        try:
            with self.writing() as connection, connection.begin():
                yield connection
        finally:
            with self._connections.errors(), self._connections.writer() as connection:
                driver = driver_of(connection)
                driver.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
                driver.execute("PRAGMA shrink_memory").fetchall()

    def checkpoint_wal(self, wait_s: float | None = None) -> bool:
        """Checkpoint the WAL: write what is only there into the file, so that a copy of the file has it too.

        Parameters
        ----------
        wait_s : float, optional
            How long to wait for the turn, if not as long as for a write.

        Returns
        -------
        bool
            Whether all of it is in the file now; not while somebody writes or reads an older state.
        """
        if not self._place.has_wal() and not self._place.is_wal_removed:
            return True
        with self._connections.errors():
            self._changeover.follow()  # the WAL may be that of a new file, and not for this connection
            with self._turn.taken(wait_s), self._connections.writer() as connection:
                return not self._place.is_wal_removed and self._connections.checkpoint(connection)

    def close(self) -> None:
        """Checkpoint the WAL and close all connections."""
        self._checkpointer.close()
        self._connections.reader.dispose()
        try:
            with self._one_by_one():
                self._close_writer()
        finally:
            self._turn.close()

    @contextlib.contextmanager
    def _one_by_one(self) -> Iterator[None]:
        """Take the turn, so that processes that end at the same moment close the file one after the other.

        Otherwise each may find it open by the others, and none checkpoints the WAL. A process that keeps the
        turn for longer is writing, and does so when it ends.
        """
        with contextlib.ExitStack() as turn:
            if self._place.is_in_place:
                with contextlib.suppress(StoreError):
                    turn.enter_context(self._turn.taken(SHORT_WAIT_S))
            yield

    def _close_writer(self) -> None:
        try:
            self._place.abandon_outdated_wal()
            if self._place.is_in_place and not self._place.has_wal_to_keep:
                self._connections.remove_wal()
            elif self._place.is_served:
                # SQLite, too, leaves the WAL where it is when it closes a file that was moved.
                self._report_wal_left()
        finally:
            self._connections.close()
            self._place.serve(None)

    def _report_wal_left(self) -> None:
        if not self._place.has_wal():
            return
        if self._place.file() is None:
            said = "its log was left where it is, and belongs to the file that was moved away"
        else:
            said = self._place.remedy()
        _log.warning("%s: %s", self._address, said, extra={"action": "log_left"})
