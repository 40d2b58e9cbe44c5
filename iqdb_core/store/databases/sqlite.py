"""How is the store kept in an SQLite file? Statements and the shape of their results; no rules.

After a clean close there is no WAL beside the file, and IQDB can open it. Open a store after forking, not
before.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.file_mode import mode_of
from iqdb_core.model import Mark
from iqdb_core.store import columns, schema
from iqdb_core.store.backend import (
    ComparedRow,
    Counter,
    FeedRow,
    FirstPass,
    ImageRow,
    counter_of,
    counter_row,
)
from iqdb_core.store.databases import sqlite_takeover
from iqdb_core.store.databases.sqlite_connections import driver_of
from iqdb_core.store.databases.sqlite_engine import SqliteEngines

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from iqdb_core.model import ChangeBatch
    from iqdb_core.store.address import SqliteAddress, StoreTimeouts
    from iqdb_core.store.backend import Look

_IDS_PER_SELECT: Final = 500
"""Below SQLite's oldest limit of 999 parameters."""
_PAGES_PER_STEP: Final = 4096
_MAX_DAMAGE: Final = 20
_FAULTS_OF_READING: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
)
"""Errors of a copy that are the fault of the file which is copied, not of the new one."""

_COUNTER: Final = "SELECT head_seq, live_count, max_revision, image_rows, image_mix FROM iqdb_store"
_BEFORE_WRITES: Final = _COUNTER.replace(" FROM", ", (SELECT max(id) FROM images) FROM")
_SET_COUNTER: Final = (
    "UPDATE iqdb_store SET head_seq = ?, live_count = ?, max_revision = ?, image_rows = ?, image_mix = ?"
)
_MARKS: Final = (
    "SELECT s.head_seq, m.seq, m.token, s.store_id FROM iqdb_store AS s LEFT JOIN iqdb_lineage AS m"
    " ON m.seq = (SELECT max(seq) FROM iqdb_lineage WHERE seq <= ?)"
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
_EXTREMES: Final = (
    "SELECT (SELECT min(id) FROM images), (SELECT max(id) FROM images),"
    " (SELECT min(post_id) FROM images), (SELECT max(post_id) FROM images)"
)
_FINGERPRINT_OF_SMALL: Final = (
    "SELECT count(*), coalesce(sum((id * (post_id + 1) + post_id) & 4294967295), 0) FROM images"
)
"""The same where nothing is negative and nothing needs more than 24 bits, in three fifths of the time: every
start of a server waits for it."""
_SMALL: Final = 2**24
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


class SqliteBackend:
    """See `backend.Backend`.

    Parameters
    ----------
    address : SqliteAddress
        The file; made if it is missing, in a directory that exists.
    timeouts : StoreTimeouts
    open_successor, may_create
        See `SqliteEngines`.
    """

    may_change_elsewhere = True

    def __init__(
        self,
        address: SqliteAddress,
        timeouts: StoreTimeouts,
        open_successor: Callable[[], None] | None = None,
        *,
        may_create: bool = True,
    ) -> None:
        self.name = str(address)
        self._address = address
        self._engines = SqliteEngines(address, timeouts, open_successor, may_create=may_create)

    def prepare(self) -> None:
        """Refuse what is not ours, then create the file and turn WAL mode on."""
        path = self._address.path
        try:
            folder, file = mode_of(path.parent), mode_of(path)
        except PermissionError as error:  # a directory above it may not be entered
            raise StoreInvalid(f"{self.name} cannot be opened ({error.strerror})") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.name} cannot be opened ({error.strerror})") from error
        if folder is None or not stat.S_ISDIR(folder):
            raise StoreInvalid(f"{self.name}: there is no directory {path.parent}")
        if file is not None and not stat.S_ISREG(file):
            raise StoreInvalid(f"{self.name} cannot be opened: it is not a regular file")
        self._engines.remove_stale_wal()
        if file is not None:
            with self.reading() as connection:
                schema.version(connection, self.name)
                is_empty = not sa.inspect(connection).get_table_names()
                if not schema.check_images(connection, self.name) and not is_empty:
                    raise StoreInvalid(f"{self.name} is of another program: it has no table images")
        self._engines.create(is_new=file is None)

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """One read transaction, which sees one state."""
        return self._engines.reading()

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """One write transaction, holding SQLite's write lock from its first moment."""
        return self._engines.writing()

    def upgrading(self) -> AbstractContextManager[sa.Connection]:
        """One write transaction in which tables may be made, and millions of rows written."""
        return self._engines.upgrading()

    snapshot = reading
    repairing = writing

    def keep_writers_out(self, connection: sa.Connection) -> None:
        """Do nothing: the transaction has excluded other writers since it began."""

    def damage(self, connection: sa.Connection) -> list[str]:
        """Return what SQLite finds wrong with the file."""
        try:
            found = driver_of(connection).execute(f"PRAGMA integrity_check({_MAX_DAMAGE})").fetchall()
        except sqlite3.DatabaseError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            return [str(exc)]
        return [str(row[0]) for row in found if row[0] != "ok"]

    def copy_file(self, path: Path, progress: Callable[[int, int], None] | None) -> bool:
        """Copy the file as it is now, while others write to it."""

        def tell(_status: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress(total - remaining, total)

        with self.reading() as connection:
            # A read makes the copy one of this moment; without it each write of others would restart it.
            self.counter(connection)
            with _copy_at(path) as target:
                driver_of(connection).backup(target, pages=_PAGES_PER_STEP, progress=tell, sleep=0)
        return True

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""
        return Counter(*counter_row(driver_of(connection).execute(_COUNTER).fetchone()))

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""
        driver_of(connection).execute(_SET_COUNTER, counter)

    def marks(self, connection: sa.Connection, seq: int) -> tuple[int, Mark | None, str]:
        """Return the newest seq, the newest mark at or below `seq`, and the store's id."""
        found = driver_of(connection).execute(_MARKS, (seq,)).fetchone()
        head_seq, mark_seq, token, store_id = counter_row(found)
        return head_seq, None if mark_seq is None else Mark(mark_seq, token), str(store_id)

    def store_id(self, connection: sa.Connection) -> str:
        """Return the store's id."""
        found = driver_of(connection).execute("SELECT store_id FROM iqdb_store").fetchone()
        return str(counter_row(found)[0])

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts."""
        found: dict[int, FeedRow] = {}
        for start in range(0, len(post_ids), _IDS_PER_SELECT):
            some = post_ids[start : start + _IDS_PER_SELECT]
            query = _FEED_ROWS.format(",".join("?" * len(some)))
            for row in driver_of(connection).execute(query, some):
                found[row[1]] = FeedRow(*row)
        return found

    def before_writes(
        self, connection: sa.Connection, post_ids: Sequence[int]
    ) -> tuple[Counter, Mapping[int, FeedRow], int]:
        """Return all that a group of writes needs to know."""
        known = self.feed_rows(connection, post_ids)
        found = counter_row(driver_of(connection).execute(_BEFORE_WRITES).fetchone())
        return counter_of(found[:-1]), known, found[-1] or 0

    def pipelined(self, connection: sa.Connection) -> AbstractContextManager[object]:  # noqa: ARG002
        """Do nothing: no statement waits for a server."""
        return contextlib.nullcontext()

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows; REPLACE also removes a row that another program gave the same post."""
        driver_of(connection).executemany(_PUT_IMAGE, rows)

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows."""
        driver_of(connection).executemany(
            "DELETE FROM images WHERE post_id = ?", [(post,) for post in post_ids]
        )

    def put_feed(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write feed rows; REPLACE removes the older row of the same post."""
        driver_of(connection).executemany(_PUT_FEED, rows)

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return the changes after a cursor; both tables' b-trees are walked in their own order."""
        found = driver_of(connection).execute(_CHANGES, (cursor, limit))
        batches = []
        while rows := found.fetchmany(sqlite_takeover.ROWS_PER_FETCH):
            batches.append(columns.to_batch(rows))
        if batches:  # another process may have written them, and ended since
            self._engines.note_write()
        return columns.join_batches(batches)

    def image(self, connection: sa.Connection, post_id: int) -> columns.RawImage | None:
        """Return one post's averages and positions, unchecked."""
        query = "SELECT avglf1, avglf2, avglf3, sig FROM images WHERE post_id = ?"
        found: columns.RawImage | None = driver_of(connection).execute(query, (post_id,)).fetchone()
        return found

    def fingerprint(self, connection: sa.Connection) -> tuple[int, int]:
        """Return the number of rows and the sum of their `pair_mix`."""
        return fingerprint(driver_of(connection))

    def compared_rows(
        self, connection: sa.Connection, after: int, limit: int, *, newest_first: bool = False
    ) -> list[ComparedRow]:
        """Return rows of `images` beside the feed's."""
        query = _COMPARED + (_NEWEST_FIRST if newest_first else _OLDEST_FIRST)
        return driver_of(connection).execute(query, (after, limit)).fetchall()

    def first_pass(self, connection: sa.Connection) -> FirstPass:
        """Let a reader look at all images, and SQLite itself write their feed rows."""
        return FirstPass(self._looks(), partial(sqlite_takeover.fill, driver_of(connection)))

    def _looks(self) -> Generator[Look]:
        with self._engines.reading() as reading, closing(sqlite_takeover.read(driver_of(reading))) as looks:
            yield from looks

    def vanished(self, connection: sa.Connection, after: int, limit: int) -> list[FeedRow]:
        """Return feed rows whose row in `images` is gone."""
        return [FeedRow(*row) for row in driver_of(connection).execute(_VANISHED, (after, limit))]

    def checkpoint_wal(self) -> bool:
        """Write what is only in the WAL into the file; returns whether all of it is there now."""
        return self._engines.checkpoint_wal()

    def close(self) -> None:
        """Checkpoint the WAL and close every connection."""
        self._engines.close()


@contextlib.contextmanager
def _copy_at(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a new file for a copy.

    Raises
    ------
    OSError
        The new file cannot be written. An error of SQLite's would be taken for one of the copied file.
    """
    try:
        with closing(sqlite3.connect(path)) as target:
            yield target
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _FAULTS_OF_READING:
            raise
        raise OSError(str(error)) from error


def fingerprint(driver: sqlite3.Connection) -> tuple[int, int]:
    """Return what `Backend.fingerprint` does."""
    try:
        extremes = driver.execute(_EXTREMES).fetchone()
    except sqlite3.DatabaseError:  # the page with the first row is damaged; the index may be whole
        extremes = (None,)
    are_small = all(isinstance(one, int) and 0 <= one < _SMALL for one in extremes)
    rows, mix = driver.execute(_FINGERPRINT_OF_SMALL if are_small else _FINGERPRINT).fetchone()
    return rows, mix
