"""How are connections to an SQLite file opened, lent and closed? Pools, pragmas, SQLite's errors.

One connection writes, and stays open; others read at the same time (WAL mode). `synchronous=FULL` makes every
commit an fsync. A connection to a file that was replaced is not lent. Knows nothing of turns. Called by
`sqlite_engine` and `sqlite_changeover`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from iqdb_core.errors import StoreError, StoreIncomplete, StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iqdb_core.store.address import SqliteAddress
    from iqdb_core.store.databases.sqlite_place import FileId, Place

_log = logging.getLogger(__name__)

_READERS: Final = 4
_MAX_READERS: Final = 64
_WRITER_CACHE_KIB: Final = 65_536
CHECKPOINT_PAGES: Final = 4000
"""A commit that makes the WAL longer than this checkpoints it; with SQLite's 1000 each large group would."""
_WAL_LIMIT_BYTES: Final = 64 * 2**20
_PAUSE_S: Final = 0.005

# What cannot heal by trying again; every other failure of SQLite is a lock, a full disk or the like.
_PERMANENT: Final = {
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_READONLY: "or its log (-wal, -shm) is read-only",
    sqlite3.SQLITE_ERROR: "does not have the tables of a store",
    sqlite3.SQLITE_PERM: "may not be opened",
    sqlite3.SQLITE_AUTH: "may not be opened",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CONSTRAINT: "refuses the row",
}
_MISSING: Final = "no such table"
"""How the message of SQLite begins; it has no error code of its own."""


class _Connection(sqlite3.Connection):
    """A connection that knows which file it was opened on."""

    file: FileId | None = None


class SqliteConnections:
    """One connection that writes and several that read one file.

    Parameters
    ----------
    address : SqliteAddress
    place : Place
        Of the same address; says which file may be opened.
    lock_s : float
        How long to wait for a lock of SQLite's or for a connection.
    may_create : bool
        Whether a missing file is created.
    """

    def __init__(self, address: SqliteAddress, place: Place, lock_s: float, *, may_create: bool) -> None:
        self._address = address
        self._place = place
        self._lock_s = lock_s
        self.may_create = may_create
        self._in_use = threading.Lock()
        self._kept_writer: sa.Connection | None = None
        self._writer = self._engine(self._connect_writer, pool_size=1, max_overflow=0)
        self.reader = self._engine(
            self._connect_reader, pool_size=_READERS, max_overflow=_MAX_READERS - _READERS
        )

    def _engine(self, creator: Callable[[], sqlite3.Connection], **pool: int) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://", creator=creator, poolclass=QueuePool, pool_timeout=self._lock_s, **pool
        )
        sa.event.listen(engine, "checkout", self._check_file)
        sa.event.listen(engine, "checkin", self._close_outdated)
        return engine

    def _connect(self, mode: str) -> _Connection:
        before = self._place.file_to_open()
        if self._place.is_wal_removed:
            raise StoreUnavailable(f"the log of {self._address} is being replaced")
        connection = sqlite3.connect(
            f"{self._address.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._lock_s,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.file = self._place.file()
        if self._place.is_served and connection.file != before:
            connection.close()  # it has read nothing yet, and so opened no WAL
            raise StoreUnavailable(f"{self._address} is being replaced")
        # Text that is not valid UTF-8, in a broken row, must not keep the other rows from being read.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        # A file that was moved away must not come back empty.
        may_create = self.may_create and not self._place.is_served
        connection = self._connect("rwc" if may_create else "rw")
        try:
            self._set_wal_mode(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}").fetchall()
            connection.execute("PRAGMA schema_version").fetchall()  # the first read makes SQLite open the WAL
        except sqlite3.Error:
            connection.close()
            raise
        self._place.note_wal()
        return connection

    def _set_wal_mode(self, connection: _Connection) -> None:
        """Turn WAL mode on; wait for others who write, as SQLite itself does not here."""
        end = time.monotonic() + self._lock_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect("rw")
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _check_file(self, connection: _Connection, _record: object, _proxy: object) -> None:
        """Refuse to lend a connection whose file was replaced, for example by a backup."""
        if connection.file != self._place.file_to_open():
            raise sa.exc.InvalidatePoolError

    def _close_outdated(self, connection: _Connection | None, record: sa.pool.ConnectionPoolEntry) -> None:
        """Close a connection to a file that was replaced or a WAL that was removed, instead of pooling it."""
        if connection is None:
            return
        if self._place.is_outdated(connection.file) or self._place.is_wal_removed:
            record.invalidate()

    @contextlib.contextmanager
    def writer(self) -> Iterator[sa.Connection]:
        """Lend the connection that writes. A transaction that is open at the end of the block is rolled back.

        It is kept for the next block: to take it from its pool costs half as much as a small commit.
        """
        self._wait_for_use()
        try:
            connection = self._current_writer()
            try:
                yield connection
                if connection.in_transaction():
                    connection.rollback()
            except BaseException as exc:
                self._give_back_writer()
                if getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                    # A WAL that was opened read-only stays so until all connections to it are closed.
                    self._writer.dispose()
                    self.reader.dispose()
                raise
        finally:
            self._in_use.release()

    def _wait_for_use(self) -> None:
        if not self._in_use.acquire(timeout=self._lock_s):
            raise self._busy()

    def _current_writer(self) -> sa.Connection:
        if self._kept_writer is not None and file_of(self._kept_writer) != self._place.file():
            self._give_back_writer()
        if self._kept_writer is None:
            self._kept_writer = self._writer.connect()
        return self._kept_writer

    def _give_back_writer(self) -> None:
        connection, self._kept_writer = self._kept_writer, None
        if connection is not None:
            connection.close()

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._address}: busy for {self._lock_s} s")

    def checkpoint(self, connection: sa.Connection, *, is_removed: bool = False) -> bool:
        """Checkpoint the WAL and truncate it; returns whether all of it is in the file now.

        One that was removed is not truncated: if it were empty, a new one would seem to fit the file, even if
        another program wrote that meanwhile, and had read the file as it was before.
        """
        mode = "FULL" if is_removed else "TRUNCATE"
        driver = driver_of(connection)
        driver.rollback()  # a checkpoint is possible outside of transactions only
        driver.execute("PRAGMA busy_timeout = 100").fetchall()
        try:
            busy, _, _ = driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            driver.execute("PRAGMA shrink_memory").fetchall()  # tens of megabytes after a takeover
        finally:
            driver.execute(f"PRAGMA busy_timeout = {self._lock_s * 1000:.0f}").fetchall()
        return not busy

    def close_all(self) -> None:
        """Close all connections to a file whose WAL was removed.

        SQLite checkpoints that WAL with the last one, if no other program has the file open, and keeps others
        out meanwhile. During a checkpoint of ours a program could open it, and mix old pages with new ones.
        """
        self._wait_for_use()
        try:
            with self._place.keeping_other_wal():
                self._give_back_writer()
                self._writer.dispose()
                self.reader.dispose()
        finally:
            self._in_use.release()

    def remove_wal(self) -> None:
        """Checkpoint the WAL and remove it, unless somebody else has the file open."""
        if self._kept_writer is None and self._place.is_wal_removed:
            return  # all is closed, and nothing may be opened before others have closed it, too
        with self.errors(), self.writer() as connection:
            driver = driver_of(connection)
            driver.rollback()  # the journal mode can be changed outside of transactions only
            try:
                if self._place.is_wal_removed and not self._place.has_other_wal_files:
                    self.checkpoint(connection, is_removed=True)  # the next to open the file does not find it
                driver.execute("PRAGMA busy_timeout = 0").fetchall()
                driver.execute("PRAGMA journal_mode = DELETE").fetchall()
            except sqlite3.OperationalError as exc:
                # Another process has the file open. The last one to close it checkpoints the WAL.
                _log.info("%s keeps its log: %s", self._address, exc, extra={"action": "log_kept"})

    def close(self) -> None:
        """Close the connection that writes."""
        with self._place.keeping_other_wal():
            self._give_back_writer()
            self._writer.dispose()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's errors into the store's."""
        try:
            yield
        except sa.exc.TimeoutError as exc:
            raise self._busy() from exc
        except sa.exc.DBAPIError as exc:
            raise self._store_error(exc.orig) from exc
        except sqlite3.Error as exc:
            raise self._store_error(exc) from exc

    def _store_error(self, exc: BaseException | None) -> StoreError:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        # A file that was served may be moved back, and file descriptors may become free.
        is_away = (self._place.is_served and code == sqlite3.SQLITE_CANTOPEN) or (
            getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED
        )
        if code in _PERMANENT and not is_away:
            kind = StoreIncomplete if str(exc).startswith(_MISSING) else StoreInvalid
            is_missing = code == sqlite3.SQLITE_CANTOPEN and _is_missing(self._address.path)
            return kind(
                f"{self._address} {_PERMANENT[code]} ({'there is no such file' if is_missing else exc})"
            )
        if code == sqlite3.SQLITE_BUSY:
            return StoreUnavailable(f"{self._address} is locked by another program")
        return StoreUnavailable(f"{self._address}: {exc}")


def _is_missing(path: Path) -> bool:
    """Return whether there is no file, which SQLite does not say; False also where nobody may look."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def file_of(connection: sa.Connection) -> FileId | None:
    """Return the file that a connection was opened on."""
    driver = driver_of(connection)
    return driver.file if isinstance(driver, _Connection) else None


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection; reads thousands of rows without a Row object of SQLAlchemy for each."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver
