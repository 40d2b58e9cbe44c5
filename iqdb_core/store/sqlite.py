"""How does an SQLite file carry the store? Connections, pragmas, statements and SQLite's errors; no rules.

One connection writes (BEGIN IMMEDIATE, so that only one process does at a time), others read beside it
(write-ahead log). `synchronous=FULL` makes every commit an fsync. After a clean close the file stands
alone, without a log beside it.
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
from iqdb_core.store.backend import Counter, FeedRow, FeedState, ImageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from iqdb_core.model import ChangeBatch
    from iqdb_core.store.address import SqliteAddress, StoreTimeouts

_log = logging.getLogger(__name__)

PAIR_MIX: Final = (
    "(((id & 16777215) * (post_id & 16777215) + (id & 4294967295) + (post_id & 4294967295) + (post_id >> 32))"
    " & 4294967295)"
)
"""`backend.pair_mix` in SQL."""

_READERS: Final = 4
_MAX_READERS: Final = 64
_IDS_PER_SELECT: Final = 500
"""Below SQLite's oldest limit of 999 parameters."""
_WRITER_CACHE_KIB: Final = 65_536

_COUNTER_COLUMNS: Final = "head_seq, live_count, max_revision, image_rows, image_mix"
_FEED_COLUMNS: Final = "seq, post_id, revision, state, row_id, digest"
_SELECT_CHANGES: Final = (
    "SELECT f.seq, f.post_id, i.avglf1, i.avglf2, i.avglf3, i.sig FROM iqdb_feed AS f"
    " LEFT JOIN images AS i ON i.id = f.row_id AND i.post_id = f.post_id AND f.state = 1"
    " WHERE f.seq > ? ORDER BY f.seq LIMIT ?"
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
}


class SqliteBackend:
    """See `backend.Backend`.

    Parameters
    ----------
    address : SqliteAddress
        The file; made if it is missing, in a directory that exists.
    timeouts : StoreTimeouts
    """

    name = "sqlite"

    def __init__(self, address: SqliteAddress, timeouts: StoreTimeouts) -> None:
        self._address = address
        self._lock_s = timeouts.lock_s
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
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect("rw")
        connection.execute("PRAGMA query_only = ON")
        return connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into the store's."""
        try:
            yield
        except sa.exc.TimeoutError as exc:
            raise StoreUnavailable(
                f"{self._address}: no connection came free within {self._lock_s} s"
            ) from exc
        except sa.exc.DBAPIError as exc:
            raise self._store_error(exc.orig) from exc
        except sqlite3.Error as exc:
            raise self._store_error(exc) from exc

    def _store_error(self, exc: BaseException | None) -> StoreError:
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _PERMANENT:
            return StoreInvalid(f"{self._address} {_PERMANENT[code]} ({exc})")
        return StoreUnavailable(f"{self._address}: {exc}")

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

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""
        row = connection.exec_driver_sql(f"SELECT {_COUNTER_COLUMNS} FROM iqdb_store").one()  # noqa: S608
        return Counter(*row)

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""
        connection.exec_driver_sql(
            "UPDATE iqdb_store SET head_seq = ?, live_count = ?, max_revision = ?, image_rows = ?, image_mix = ?",
            (
                counter.head_seq,
                counter.live_count,
                counter.max_revision,
                counter.image_rows,
                counter.image_mix,
            ),
        )

    def store_id(self, connection: sa.Connection) -> str:
        """Return the store's id."""
        return str(connection.exec_driver_sql("SELECT store_id FROM iqdb_store").scalar_one())

    def newest_row_id(self, connection: sa.Connection) -> int:
        """Return the largest `images.id`."""
        return connection.exec_driver_sql("SELECT max(id) FROM images").scalar_one() or 0

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts."""
        found: dict[int, FeedRow] = {}
        driver = _driver(connection)
        for start in range(0, len(post_ids), _IDS_PER_SELECT):
            some = post_ids[start : start + _IDS_PER_SELECT]
            places = ",".join("?" * len(some))
            query = f"SELECT {_FEED_COLUMNS} FROM iqdb_feed WHERE post_id IN ({places})"  # noqa: S608
            for seq, post_id, revision, state, row_id, digest in driver.execute(query, some):
                found[post_id] = FeedRow(seq, post_id, revision, FeedState(state), row_id, digest)
        return found

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows; REPLACE also removes a row that another program gave the same post."""
        _driver(connection).executemany(
            "INSERT OR REPLACE INTO images (id, post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows."""
        _driver(connection).executemany(
            "DELETE FROM images WHERE post_id = ?", [(post,) for post in post_ids]
        )

    def put_feed(self, connection: sa.Connection, rows: Iterable[FeedRow]) -> None:
        """Write feed rows; REPLACE removes the older row of the same post."""
        _driver(connection).executemany(
            f"INSERT OR REPLACE INTO iqdb_feed ({_FEED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows
        )

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return the changes after a cursor; rows come in the order of both tables' b-trees."""
        return columns.to_batch(_driver(connection).execute(_SELECT_CHANGES, (cursor, limit)).fetchall())

    def image(self, connection: sa.Connection, post_id: int) -> tuple[Any, Any, Any, Any] | None:
        """Return one post's averages and positions, unchecked."""
        found: tuple[Any, Any, Any, Any] | None = (
            _driver(connection)
            .execute("SELECT avglf1, avglf2, avglf3, sig FROM images WHERE post_id = ?", (post_id,))
            .fetchone()
        )
        return found

    def upgrade(self, progress: Callable[[int, int], None] | None) -> None:
        """Make the file a store of the current schema."""
        from iqdb_core.store import takeover  # noqa: PLC0415

        with self._errors():
            self._look_before_touching()
            with self._writer.begin() as connection:
                if schema.version(connection) != schema.NEWEST_VERSION:
                    has_images = schema.check_images(connection)
                    schema.migrate_schema(connection)
                    if has_images:
                        takeover.take_over(self, connection, progress)

    def _look_before_touching(self) -> None:
        """Refuse a file that is not ours before anything, be it the journal mode, is changed in it."""
        path = self._address.path
        if not path.parent.is_dir():
            raise StoreInvalid(f"{self._address}: there is no directory {path.parent}")
        if not path.exists():
            return
        connection = self._connect("rw")
        try:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
        finally:
            connection.close()
        if tables and schema.IMAGES not in tables:
            raise StoreInvalid(f"{self._address} is a database of another program: it has no table images")

    def close(self) -> None:
        """Fold the log into the file and give back every connection."""
        self._reader.dispose()
        with self._errors():
            connection = self._writer.raw_connection()
            try:
                driver = connection.driver_connection
                driver.execute("PRAGMA busy_timeout = 0")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                driver.execute("PRAGMA journal_mode = DELETE").fetchall()
            except sqlite3.OperationalError as exc:
                # The last process to close will do it.
                _log.info(
                    "%s is still open elsewhere, so its log stays: %s",
                    self._address,
                    exc,
                    extra={"action": "log_stays"},
                )
            finally:
                connection.close()
                self._writer.dispose()


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection: rows by the thousand, without a Row object for each."""
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
