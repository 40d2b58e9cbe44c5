"""How do we reach an SQLite file, and when do we give up? Connections, pragmas, turns, SQLite's errors.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read beside it
(write-ahead log). `synchronous=FULL` makes every commit an fsync. A file that was replaced by another is
noticed at the next transaction. Called by `sqlite` only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from iqdb_core.errors import StoreError, StoreInvalid, StoreUnavailable
from iqdb_core.store.databases.sqlite_log import LogFolder
from iqdb_core.store.databases.writer_turn import WriterTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iqdb_core.store.address import SqliteAddress, StoreTimeouts

_log = logging.getLogger(__name__)

_READERS: Final = 4
_MAX_READERS: Final = 64
_WRITER_CACHE_KIB: Final = 65_536
_LOG_PAGES: Final = 4000
"""Pages of the log that are folded into the file at once; with SQLite's 1000, each large group does it."""
_LOG_LIMIT_BYTES: Final = 64 * 2**20
_FILE: Final = "iqdb_file"

# What cannot heal by trying again; every other failure of SQLite is a lock, a full disk or the like.
_PERMANENT: Final = {
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_ERROR: "does not have the tables of a store",
    sqlite3.SQLITE_PERM: "may not be opened",
    sqlite3.SQLITE_AUTH: "may not be opened",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CONSTRAINT: "refuses the row",
}


class SqliteEngines:
    """One connection that writes and several that read one file.

    Parameters
    ----------
    address : SqliteAddress
    timeouts : StoreTimeouts
    """

    def __init__(self, address: SqliteAddress, timeouts: StoreTimeouts) -> None:
        self._address = address
        self._lock_s = timeouts.lock_s
        self._is_prepared = False
        self._turn = WriterTurn(address.path, timeouts.lock_s)
        self._log_folder = LogFolder(self.fold_log)
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
        sa.event.listen(engine, "connect", self._remember_file)
        sa.event.listen(engine, "checkout", self._check_file)
        return engine

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._address.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._lock_s,
            isolation_level=None,
            check_same_thread=False,
        )
        # A broken row may hold text that is none; it must not keep the others from being read.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        # A file that was moved away must not come back empty.
        connection = self._connect("rw" if self._is_prepared else "rwc")
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}").fetchall()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect("rw")
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _remember_file(self, _connection: object, record: Any) -> None:
        record.info[_FILE] = self._file()

    def _check_file(self, _connection: object, record: Any, _proxy: object) -> None:
        """Leave a connection to a file that another one has replaced, for example a backup put back."""
        file = self._file()
        if file is None and self._is_prepared:
            raise StoreUnavailable(f"{self._address} is not there any more")
        if record.info[_FILE] != file:
            raise sa.exc.InvalidatePoolError

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self._address.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def create(self) -> None:
        """Make the file if it is missing, and turn its write-ahead log on."""
        with self._connected():
            self._is_prepared = True
        if self._has_log():  # left by a process that was killed
            self.note_write()

    def note_write(self) -> None:
        """Say that something was written, by this process or another: the log is folded soon afterwards."""
        self._log_folder.note_write()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """Lend the connection that writes, kept for the next block: a pool costs half of a small commit.

        What is open at the end of the block is rolled back.
        """
        if not self._in_use.acquire(timeout=self._lock_s):
            raise self._busy()
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

    def _kept_or_new(self) -> sa.Connection:
        if self._kept is not None and self._kept.info[_FILE] != self._file():
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

    # Transactions begin at the driver, which most statements go to: SQLAlchemy begins one at its own first
    # statement only. One that reads ends when its connection goes back to the pool.

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One read transaction: all its statements see the state that the first one saw."""
        with self.errors(), self.reader.connect() as connection:
            driver_of(connection).execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One write transaction, in turn with the writers of other processes."""
        with self.errors(), self._turn.taken(), self._connected() as connection:
            driver = driver_of(connection)
            driver.execute("BEGIN IMMEDIATE")
            yield connection
            driver.commit()
        self.note_write()

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Do as `writing`, for Alembic, which would commit by itself outside of SQLAlchemy's transactions.

        And for millions of rows: their log is folded later, beside what is waited for, and the pages that the
        connection has kept, tens of megabytes, are given back.
        """
        with self.errors(), self._connected() as connection:
            driver_of(connection).execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        try:
            with self.writing() as connection, connection.begin():
                yield connection
        finally:
            with self.errors(), self._connected() as connection:
                driver = driver_of(connection)
                driver.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}").fetchall()
                driver.execute("PRAGMA shrink_memory").fetchall()

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
        is_away = self._is_prepared and code == sqlite3.SQLITE_CANTOPEN
        if code in _PERMANENT and not is_away:
            return StoreInvalid(f"{self._address} {_PERMANENT[code]} ({exc})")
        return StoreUnavailable(f"{self._address}: {exc}")

    def fold_log(self) -> bool:
        """Write what is only in the log into the file itself, so that a copy of the file has it too.

        Returns
        -------
        bool
            Whether all of it is there now; not while somebody writes or reads an older state.
        """
        if not self._has_log():
            return True
        with self.errors(), self._turn.taken(), self._connected() as connection:
            driver = driver_of(connection)
            driver.rollback()  # the log is folded outside of transactions only
            driver.execute("PRAGMA busy_timeout = 100").fetchall()
            try:
                busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                driver.execute("PRAGMA shrink_memory").fetchall()  # tens of megabytes after a takeover
            finally:
                driver.execute(f"PRAGMA busy_timeout = {self._lock_s * 1000:.0f}").fetchall()
        return not busy

    def _has_log(self) -> bool:
        try:
            return os.stat(f"{self._address.path}-wal").st_size > 0  # noqa: PTH116 - SQLite's own name for it
        except OSError:
            return False

    def close(self) -> None:
        """Fold the log into the file and give back every connection."""
        self._log_folder.close()
        self.reader.dispose()
        if self._is_prepared:
            self._is_prepared = False
            with self.errors(), self._connected() as connection:
                driver = driver_of(connection)
                driver.rollback()  # pragmas of the journal work outside of transactions only
                driver.execute("PRAGMA busy_timeout = 0").fetchall()
                try:
                    driver.execute("PRAGMA journal_mode = DELETE").fetchall()
                except sqlite3.OperationalError as exc:
                    # Another process has the file open; the last one to close it folds the log in.
                    _log.info("%s keeps its log: %s", self._address, exc, extra={"action": "log_kept"})
        self._let_go()
        self._writer.dispose()
        self._turn.close()


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection: rows by the thousand, without a Row object for each."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver
