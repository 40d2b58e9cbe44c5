"""How does an SQLite file carry the store? Connections, pragmas, statements and SQLite's errors; no rules.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read beside it
(write-ahead log). `synchronous=FULL` makes every commit an fsync. After a clean close the file stands
alone, with no log beside it, and IQDB opens it. Open a store after forking, not before.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from iqdb_core.errors import StoreError, StoreInvalid, StoreUnavailable
from iqdb_core.store import columns, schema
from iqdb_core.store.backend import ComparedRow, Counter, FeedRow, ImageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from iqdb_core.model import ChangeBatch
    from iqdb_core.store.address import SqliteAddress, StoreTimeouts

_log = logging.getLogger(__name__)

_READERS: Final = 4
_MAX_READERS: Final = 64
_IDS_PER_SELECT: Final = 500
"""Below SQLite's oldest limit of 999 parameters."""
_ROWS_PER_FETCH: Final = 512
"""So many rows' objects stay in the processor's cache until they have become columns, and are too few to set
off the garbage collector, which would look through them in vain."""
_WRITER_CACHE_KIB: Final = 65_536
_LOG_PAGES: Final = 4000
"""Pages of the log that are folded into the file at once; with SQLite's 1000, each large group does it."""
_LOG_LIMIT_BYTES: Final = 64 * 2**20

_COUNTER: Final = "SELECT head_seq, live_count, max_revision, image_rows, image_mix FROM iqdb_store"
_SET_COUNTER: Final = (
    "UPDATE iqdb_store SET head_seq = ?, live_count = ?, max_revision = ?, image_rows = ?, image_mix = ?"
)
_FEED_ROWS: Final = (
    "SELECT seq, post_id, revision, state, row_id, digest FROM iqdb_feed WHERE post_id IN ({})"
)
_PUT_IMAGE: Final = (
    "INSERT OR REPLACE INTO images (id, post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?, ?)"
)
_PUT_FEED: Final = (
    "INSERT OR REPLACE INTO iqdb_feed (seq, post_id, revision, state, row_id, digest)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_CHANGES: Final = (
    "SELECT f.seq, f.post_id, i.avglf1, i.avglf2, i.avglf3, i.sig FROM iqdb_feed AS f"
    " LEFT JOIN images AS i ON i.id = f.row_id AND i.post_id = f.post_id AND f.state = 1"
    " WHERE f.seq > ? ORDER BY f.seq LIMIT ?"
)
# backend.pair_mix in SQL; both columns are in the index on post_id, so the rows themselves are not read.
_FINGERPRINT: Final = (
    "SELECT count(*), coalesce(sum(((id & 16777215) * (post_id & 16777215) + (id & 4294967295)"
    " + (post_id & 4294967295) + (post_id >> 32)) & 4294967295), 0) FROM images"
)
_COMPARED: Final = (
    "SELECT i.id, i.post_id, i.avglf1, i.avglf2, i.avglf3, i.sig,"
    " f.seq, f.post_id, f.revision, f.state, f.row_id, f.digest"
    " FROM images AS i LEFT JOIN iqdb_feed AS f ON f.post_id = i.post_id"
)
_OLDEST_FIRST: Final = " WHERE i.id > ? ORDER BY i.id ASC LIMIT ?"
_NEWEST_FIRST: Final = " WHERE i.id <= ? ORDER BY i.id DESC LIMIT ?"
_VANISHED: Final = (
    "SELECT seq, post_id, revision, state, row_id, digest FROM iqdb_feed AS f"
    " WHERE post_id > ? AND state <> 0"
    " AND NOT EXISTS (SELECT 1 FROM images AS i WHERE i.post_id = f.post_id)"
    " ORDER BY post_id LIMIT ?"
)

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


class SqliteBackend:
    """See `backend.Backend`.

    Parameters
    ----------
    address : SqliteAddress
        The file; made if it is missing, in a directory that exists.
    timeouts : StoreTimeouts
    """

    may_change_elsewhere = True

    def __init__(self, address: SqliteAddress, timeouts: StoreTimeouts) -> None:
        self.name = str(address)
        self._address = address
        self._lock_s = timeouts.lock_s
        self._is_prepared = False
        self._writer = self._engine("BEGIN IMMEDIATE", self._connect_writer, pool_size=1, max_overflow=0)
        self._reader = self._engine(
            "BEGIN", self._connect_reader, pool_size=_READERS, max_overflow=_MAX_READERS - _READERS
        )

    def _engine(self, begin: str, creator: Callable[[], sqlite3.Connection], **pool: int) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+pysqlite://", creator=creator, poolclass=QueuePool, pool_timeout=self._lock_s, **pool
        )
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._address.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._lock_s,
            isolation_level=None,
            check_same_thread=False,
        )

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect("rwc")
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

    def prepare(self) -> None:
        """Refuse what is not ours, then make the file and turn its write-ahead log on."""
        path = self._address.path
        if not path.parent.is_dir():
            raise StoreInvalid(f"{self.name}: there is no directory {path.parent}")
        with self._errors():
            if path.exists():
                with self._reader.connect() as connection:
                    schema.version(connection, self.name)
                    is_empty = not sa.inspect(connection).get_table_names()
                    if not schema.check_images(connection, self.name) and not is_empty:
                        raise StoreInvalid(f"{self.name} is of another program: it has no table images")
            with self._writer.connect():
                self._is_prepared = True

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into the store's."""
        try:
            yield
        except sa.exc.TimeoutError as exc:
            raise StoreUnavailable(f"{self.name}: busy for {self._lock_s} s") from exc
        except sa.exc.DBAPIError as exc:
            raise self._store_error(exc.orig) from exc
        except sqlite3.Error as exc:
            raise self._store_error(exc) from exc

    def _store_error(self, exc: BaseException | None) -> StoreError:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _PERMANENT:
            return StoreInvalid(f"{self.name} {_PERMANENT[code]} ({exc})")
        return StoreUnavailable(f"{self.name}: {exc}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One read transaction."""
        with self._errors(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One write transaction, holding SQLite's write lock from its first moment."""
        with self._errors(), self._writer.begin() as connection:
            yield connection

    upgrading = writing

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""
        return Counter(*_driver(connection).execute(_COUNTER).fetchone())

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""
        _driver(connection).execute(_SET_COUNTER, counter)

    def store_id(self, connection: sa.Connection) -> str:
        """Return the store's id."""
        return str(_driver(connection).execute("SELECT store_id FROM iqdb_store").fetchone()[0])

    def newest_row_id(self, connection: sa.Connection) -> int:
        """Return the largest `images.id`."""
        return _driver(connection).execute("SELECT max(id) FROM images").fetchone()[0] or 0

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts."""
        found: dict[int, FeedRow] = {}
        for start in range(0, len(post_ids), _IDS_PER_SELECT):
            some = post_ids[start : start + _IDS_PER_SELECT]
            query = _FEED_ROWS.format(",".join("?" * len(some)))
            for row in _driver(connection).execute(query, some):
                found[row[1]] = FeedRow(*row)
        return found

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows; REPLACE also removes a row that another program gave the same post."""
        _driver(connection).executemany(_PUT_IMAGE, rows)

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows."""
        _driver(connection).executemany(
            "DELETE FROM images WHERE post_id = ?", [(post,) for post in post_ids]
        )

    def put_feed(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write feed rows; REPLACE removes the older row of the same post."""
        _driver(connection).executemany(_PUT_FEED, rows)

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return the changes after a cursor; both tables' b-trees are walked in their own order."""
        found = _driver(connection).execute(_CHANGES, (cursor, limit))
        batches = []
        while rows := found.fetchmany(_ROWS_PER_FETCH):
            batches.append(columns.to_batch(rows))
        return columns.join_batches(batches)

    def image(self, connection: sa.Connection, post_id: int) -> columns.RawImage | None:
        """Return one post's averages and positions, unchecked."""
        query = "SELECT avglf1, avglf2, avglf3, sig FROM images WHERE post_id = ?"
        found: columns.RawImage | None = _driver(connection).execute(query, (post_id,)).fetchone()
        return found

    def fingerprint(self, connection: sa.Connection) -> tuple[int, int]:
        """Return the number of rows and the sum of their `pair_mix`."""
        rows, mix = _driver(connection).execute(_FINGERPRINT).fetchone()
        return rows, mix

    def compared_rows(
        self, connection: sa.Connection, after: int, limit: int, *, newest_first: bool = False
    ) -> list[ComparedRow]:
        """Return rows of `images` beside the feed's."""
        query = _COMPARED + (_NEWEST_FIRST if newest_first else _OLDEST_FIRST)
        return _driver(connection).execute(query, (after, limit)).fetchall()

    def vanished(self, connection: sa.Connection, after: int, limit: int) -> list[FeedRow]:
        """Return feed rows whose row in `images` is gone."""
        return [FeedRow(*row) for row in _driver(connection).execute(_VANISHED, (after, limit))]

    def close(self) -> None:
        """Fold the log into the file and give back every connection."""
        self._reader.dispose()
        if self._is_prepared:
            self._is_prepared = False
            with self._errors(), self._writer.connect() as connection:
                driver = _driver(connection)
                driver.rollback()  # pragmas of the journal work outside of transactions only
                driver.execute("PRAGMA busy_timeout = 0").fetchall()
                try:
                    driver.execute("PRAGMA journal_mode = DELETE").fetchall()
                except sqlite3.OperationalError as exc:
                    # Another process has the file open; the last one to close it folds the log in.
                    _log.info("%s keeps its log: %s", self._address, exc, extra={"action": "log_kept"})
        self._writer.dispose()


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection: rows by the thousand, without a Row object for each."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {driver!r}")
    return driver
