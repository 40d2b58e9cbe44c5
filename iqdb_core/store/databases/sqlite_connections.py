"""How are connections to an SQLite file opened, lent and closed? Pools, pragmas, SQLite's errors.

One writes and is kept, others read beside it (write-ahead log). `synchronous=FULL` makes every commit an
fsync. None is lent once its file was replaced. Knows nothing of turns. Called by `sqlite_engine` and
`sqlite_changeover`.
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

    from iqdb_core.store.address import SqliteAddress
    from iqdb_core.store.databases.sqlite_place import FileId, Place

_log = logging.getLogger(__name__)

_READERS: Final = 4
_MAX_READERS: Final = 64
_WRITER_CACHE_KIB: Final = 65_536
LOG_PAGES: Final = 4000
"""Pages of the log that are folded into the file at once; with SQLite's 1000, each large group does it."""
_LOG_LIMIT_BYTES: Final = 64 * 2**20
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
"""How SQLite says so; it has no number for it."""


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
        Whether the file is made if it is missing.
    """

    def __init__(self, address: SqliteAddress, place: Place, lock_s: float, *, may_create: bool) -> None:
        self._address = address
        self._place = place
        self._lock_s = lock_s
        self._may_create = may_create
        self._in_use = threading.Lock()
        self._kept: sa.Connection | None = None
        self._writer = self._engine(self._connect_writer, pool_size=1, max_overflow=0)
        self.reader = self._engine(
            self._connect_reader, pool_size=_READERS, max_overflow=_MAX_READERS - _READERS
        )

    def _engine(self, creator: Callable[[], sqlite3.Connection], **pool: int) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://", creator=creator, poolclass=QueuePool, pool_timeout=self._lock_s, **pool
        )
        sa.event.listen(engine, "checkout", self._check_file)
        sa.event.listen(engine, "checkin", self._close_left)
        return engine

    def _connect(self, mode: str) -> _Connection:
        before = self._place.look()
        if self._place.has_lost_log:
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
            connection.close()  # it has read nothing yet, and so opened no log
            raise StoreUnavailable(f"{self._address} is being replaced")
        # A broken row may hold text that is none; it must not keep the others from being read.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        # A file that was moved away must not come back empty.
        may_create = self._may_create and not self._place.is_served
        connection = self._connect("rwc" if may_create else "rw")
        try:
            self._turn_log_on(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}").fetchall()
            connection.execute("PRAGMA schema_version").fetchall()  # SQLite makes the log at the first read
        except sqlite3.Error:
            connection.close()
            raise
        self._place.note_log()
        return connection

    def _turn_log_on(self, connection: _Connection) -> None:
        """Have a write-ahead log. Where somebody else writes just now, SQLite itself does not wait."""
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
        """Leave a connection to a file that another one has replaced, for example a backup put back."""
        if connection.file != self._place.look():
            raise sa.exc.InvalidatePoolError

    def _close_left(self, connection: _Connection | None, record: sa.pool.ConnectionPoolEntry) -> None:
        """Close a connection to a file or log that is not used any more: its pool would keep both open."""
        if connection is not None and (self._place.is_left(connection.file) or self._place.has_lost_log):
            record.invalidate()

    @contextlib.contextmanager
    def writer(self) -> Iterator[sa.Connection]:
        """Lend the connection that writes, kept for the next block: a pool costs half of a small commit.

        What is open at the end of the block is rolled back.
        """
        self._wait_for_use()
        try:
            connection = self._kept_or_new()
            try:
                yield connection
                if connection.in_transaction():
                    connection.rollback()
            except BaseException:
                self._let_go()
                raise
        finally:
            self._in_use.release()

    def _wait_for_use(self) -> None:
        if not self._in_use.acquire(timeout=self._lock_s):
            raise self._busy()

    def _kept_or_new(self) -> sa.Connection:
        if self._kept is not None and file_of(self._kept) != self._place.file():
            self._let_go()
        if self._kept is None:
            self._kept = self._writer.connect()
        return self._kept

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._address}: busy for {self._lock_s} s")

    def fold(self, connection: sa.Connection) -> bool:
        """Write the log into the file; returns whether all of it is there now."""
        driver = driver_of(connection)
        driver.rollback()  # the log is folded outside of transactions only
        driver.execute("PRAGMA busy_timeout = 100").fetchall()
        try:
            busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            driver.execute("PRAGMA shrink_memory").fetchall()  # tens of megabytes after a takeover
        finally:
            driver.execute(f"PRAGMA busy_timeout = {self._lock_s * 1000:.0f}").fetchall()
        return not busy

    def close_all(self) -> None:
        """Close all that is open of a file whose log was removed, once what is in that log is in the file."""
        self._wait_for_use()
        try:
            if self._kept is not None and not self._place.has_log():
                self.fold(self._kept)
            with self._place.keeping_log():
                self._let_go()
                self._writer.dispose()
                self.reader.dispose()
        finally:
            self._in_use.release()

    def remove_log(self) -> None:
        """Fold the log into the file and remove it, where nobody else has the file open."""
        if self._place.has_lost_log and (self._kept is None or self._place.is_in_another_log):
            return  # all is closed, and nothing may be opened before others have closed it, too
        with self.errors(), self.writer() as connection:
            driver = driver_of(connection)
            driver.rollback()  # pragmas of the journal work outside of transactions only
            driver.execute("PRAGMA busy_timeout = 0").fetchall()
            try:
                driver.execute("PRAGMA journal_mode = DELETE").fetchall()
            except sqlite3.OperationalError as exc:
                # Another process has the file open; the last one to close it folds the log in.
                _log.info("%s keeps its log: %s", self._address, exc, extra={"action": "log_kept"})

    def close(self) -> None:
        """Give back the connection that writes."""
        with self._place.keeping_log():
            self._let_go()
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
        # A file that was ours may be moved back, and descriptors become free.
        is_away = (self._place.is_served and code == sqlite3.SQLITE_CANTOPEN) or (
            getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED
        )
        if code in _PERMANENT and not is_away:
            kind = StoreIncomplete if str(exc).startswith(_MISSING) else StoreInvalid
            return kind(f"{self._address} {_PERMANENT[code]} ({exc})")
        return StoreUnavailable(f"{self._address}: {exc}")


def file_of(connection: sa.Connection) -> FileId | None:
    """Return which file a connection was opened on."""
    driver = driver_of(connection)
    return driver.file if isinstance(driver, _Connection) else None


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection: rows by the thousand, without a Row object for each."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver
