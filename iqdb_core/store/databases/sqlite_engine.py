"""How do we reach an SQLite file, and when do we give up? Connections, pragmas, turns, SQLite's errors.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read beside it
(write-ahead log). `synchronous=FULL` makes every commit an fsync. A file that was replaced by another is
noticed at the next transaction, and gone over to when it was opened as at the start. Called by `sqlite` only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from iqdb_core.errors import StoreError, StoreIncomplete, StoreInvalid, StoreUnavailable
from iqdb_core.store.databases.sqlite_log import LogFolder
from iqdb_core.store.databases.sqlite_place import Place
from iqdb_core.store.databases.writer_turn import WriterTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iqdb_core.store.address import SqliteAddress, StoreTimeouts
    from iqdb_core.store.databases.sqlite_place import FileId

_log = logging.getLogger(__name__)

_READERS: Final = 4
_MAX_READERS: Final = 64
_WRITER_CACHE_KIB: Final = 65_536
_LOG_PAGES: Final = 4000
"""Pages of the log that are folded into the file at once; with SQLite's 1000, each large group does it."""
_LOG_LIMIT_BYTES: Final = 64 * 2**20
_REFUSED_S: Final = 5.0
"""So long a file that was put here and cannot be served is not read again, unless it is changed."""

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
_MISSING: Final = "no such table"
"""How SQLite says so; it has no number for it."""


class _Connection(sqlite3.Connection):
    """A connection that knows which file it was opened on."""

    file: FileId | None = None


class SqliteEngines:
    """One connection that writes and several that read one file.

    Parameters
    ----------
    address : SqliteAddress
    timeouts : StoreTimeouts
    open_successor : callable, optional
        Makes a store of a file that was put here, by connections of its own that are closed when it returns;
        raises StoreInvalid if it is none. A file that was replaced is not gone over to without it.
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
        self._lock_s = timeouts.lock_s
        # Beside the file itself, where those who have it by another name look as well.
        self._turn = WriterTurn(Path(os.path.realpath(address.path)), timeouts.lock_s)
        self._place = Place(address)
        self._open_successor = open_successor
        self._may_create = may_create
        self._going_over = threading.Lock()
        self._refused: tuple[tuple[int, ...], float, str] = ((), 0.0, "")
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
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}").fetchall()
            connection.execute("PRAGMA schema_version").fetchall()  # SQLite makes the log at the first read
        except sqlite3.Error:
            connection.close()
            raise
        self._place.note_log()
        return connection

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

    def clear_log(self) -> None:
        """Leave no log of another file here, before anything is opened; see `Place`."""
        self._place.expect_no_lone_log()
        with self.errors():
            self._place.clear_log()

    def create(self) -> None:
        """Make the file if it is missing, and turn its write-ahead log on."""
        with self._connected() as connection:
            self._place.serve(_file_of(connection))
            self._place.note_log()
        if self._place.has_log():  # left by a process that was killed
            self.note_write()

    def note_write(self) -> None:
        """Say that something was written, by this process or another: the log is folded soon afterwards."""
        self._log_folder.note_write()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
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
        if self._kept is not None and _file_of(self._kept) != self._place.file():
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
        with self.errors(), self._reader_of_now() as connection:
            driver_of(connection).execute("BEGIN")
            yield connection

    def _reader_of_now(self) -> sa.Connection:
        self._follow()
        return self.reader.connect()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One write transaction, in turn with the writers of other processes."""
        with self.errors():
            self._follow()
            with self._turn.taken(), self._connected() as connection:
                driver = driver_of(connection)
                driver.execute("BEGIN IMMEDIATE")
                yield connection
                driver.commit()
                if _file_of(connection) != self._place.file():
                    # What was written may be in a log that nobody reads any more: it is not acknowledged.
                    raise StoreUnavailable(f"{self._address} was moved while it was written")
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

    def _follow(self) -> None:
        """Go over to another file that was put here, or to another log where the one in use was removed.

        Does nothing where nothing is here, or a log lies beside another file: who connects next is told by
        `Place.look`. Never called with the turn.

        Raises
        ------
        StoreUnavailable
            It is no store, or was replaced once more, or others write or have it open.
        """
        if self._open_successor is None or not self._place.is_served:
            return
        if self._place.is_kept and not self._place.has_lost_log:
            return
        # While one thread takes the file over, its log is no reason for the others to refuse it.
        if not self._going_over.acquire(timeout=self._lock_s):
            raise StoreUnavailable(f"{self._address} is being replaced")
        try:
            if not self._place.is_kept:
                self._go_over(self._open_successor)
            elif self._place.has_lost_log:
                self._renew_log()
        finally:
            self._going_over.release()

    def _go_over(self, open_successor: Callable[[], None]) -> None:
        """Go over to another file, once it is in step: other programs may have made it."""
        if self._place.successor() is None:
            return
        if not self._turn.is_possible:  # its folder is gone, and with it whoever took turns there
            self._turn.move(self._place.real_path())
        successor = self._take_over(open_successor)
        if successor is None or self._place.successor() != successor:
            return
        self._place.serve(successor)
        self._turn.move(self._place.real_path())
        said = "%s was replaced by another file, which is served now"
        _log.info(said, self._address, extra={"action": "replaced"})
        self.reader.dispose()  # what is open of the file before may be large; what is in use is closed later
        self._begin_log()

    def _take_over(self, open_successor: Callable[[], None]) -> FileId | None:
        """Make a store of the file that was put here; of one that is none only now and then."""
        refused, until_s, said = self._refused
        if self._place.state() == refused and time.monotonic() <= until_s:
            raise StoreUnavailable(said)
        successor = self._place.file()
        try:
            # Who had begun to write into the file before has written its log when this turn comes.
            with self.errors(), self._turn.taken():
                if successor is None or successor != self._place.successor():
                    return None
                self._place.clear_log()
            open_successor()
        except StoreInvalid as error:
            if self._place.file() != successor:  # it may have been read together with the next one
                raise StoreUnavailable(f"{self._address} is being replaced") from error
            said = f"another file was put here, and is not served: {error}"
            self._refused = self._place.state(), time.monotonic() + _REFUSED_S, said
            raise StoreUnavailable(said) from error
        return successor

    def _renew_log(self) -> None:
        """Close all that is open of a file whose log was removed, and go on with another log."""
        with self._turn.taken():
            self._wait_for_use()
            try:
                if self._kept is not None and not self._place.has_log():
                    self._fold(driver_of(self._kept))
                self._let_go()
            finally:
                self._in_use.release()
            self._writer.dispose()
            self.reader.dispose()
            self._place.clear_log()
        said = "the log of %s was removed: what was in it is in the file, and there is another log now"
        _log.warning(said, self._address, extra={"action": "log_removed"})
        self._begin_log()

    def _begin_log(self) -> None:
        """Have a log, and know it, before anybody reads for long: none can be begun then."""
        with self._connected():
            pass

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

    def fold_log(self) -> bool:
        """Write what is only in the log into the file itself, so that a copy of the file has it too.

        Returns
        -------
        bool
            Whether all of it is there now; not while somebody writes or reads an older state.
        """
        if not self._place.has_log() and not self._place.has_lost_log:
            return True
        with self.errors():
            self._follow()  # while another file is taken over, the log is its own
        with self.errors(), self._turn.taken(), self._connected() as connection:
            return self._fold(driver_of(connection))

    def _fold(self, driver: sqlite3.Connection) -> bool:
        driver.rollback()  # the log is folded outside of transactions only
        driver.execute("PRAGMA busy_timeout = 100").fetchall()
        try:
            busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            driver.execute("PRAGMA shrink_memory").fetchall()  # tens of megabytes after a takeover
        finally:
            driver.execute(f"PRAGMA busy_timeout = {self._lock_s * 1000:.0f}").fetchall()
        return not busy

    def close(self) -> None:
        """Fold the log into the file and give back every connection."""
        self._log_folder.close()
        self.reader.dispose()
        try:
            if self._place.is_kept:
                self._remove_log()
            elif self._place.is_served:
                # SQLite, too, leaves it where it is then, when the last connection is closed.
                self._tell_log_left()
        finally:
            self._place.serve(None)
            self._let_go()
            self._writer.dispose()
            self._turn.close()

    def _remove_log(self) -> None:
        if self._kept is None and self._place.has_lost_log:
            return  # all is closed, and nothing may be opened before others have closed it, too
        with self.errors(), self._connected() as connection:
            driver = driver_of(connection)
            driver.rollback()  # pragmas of the journal work outside of transactions only
            driver.execute("PRAGMA busy_timeout = 0").fetchall()
            try:
                driver.execute("PRAGMA journal_mode = DELETE").fetchall()
            except sqlite3.OperationalError as exc:
                # Another process has the file open; the last one to close it folds the log in.
                _log.info("%s keeps its log: %s", self._address, exc, extra={"action": "log_kept"})

    def _tell_log_left(self) -> None:
        if not self._place.has_log():
            return
        if self._place.file() is None:
            said = "its log was left where it is, and belongs to the file that was moved away"
        else:
            said = self._place.remedy()
        _log.warning("%s: %s", self._address, said, extra={"action": "log_left"})


def _file_of(connection: sa.Connection) -> FileId | None:
    driver = driver_of(connection)
    return driver.file if isinstance(driver, _Connection) else None


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection: rows by the thousand, without a Row object for each."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver
