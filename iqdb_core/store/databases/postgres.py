"""How is the store kept in Postgres? Statements and the shape of their results; no rules, no connections.

The counter row is locked (SELECT ... FOR UPDATE) by the first statement of every write and stays so until
the commit, so seqs commit in order. Rows travel as arrays in binary form: one statement writes, and one row
of the answer holds, thousands.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.model import CHANNELS, KEPT, ChangeBatch, Mark
from iqdb_core.store import columns
from iqdb_core.store.backend import Counter, FeedRow, counter_of, counter_row
from iqdb_core.store.databases.postgres_engine import PostgresEngines, driver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psycopg
    import sqlalchemy as sa

    from iqdb_core.store.address import PostgresAddress, StoreTimeouts
    from iqdb_core.store.backend import ComparedRow, ImageRow

_UPGRADE_LOCK: Final = 0x69716462_73746F72
"""Key of the advisory lock that keeps two upgrades apart ("iqdbstor")."""
_ROWS_PER_AGGREGATE: Final = 16_384
"""Larger aggregates make the server copy its growing buffers more than the saved round trips are worth."""

# The counter row by its key: a long snapshot leaves many dead versions of it, and a scan would read them all.
_LOCK_COUNTER: Final = "SELECT 1 FROM iqdb_store WHERE one = 1 FOR UPDATE"
_COUNTER: Final = (
    "SELECT head_seq, live_count, max_revision, image_rows, image_mix FROM iqdb_store WHERE one = 1"
)
_SET_COUNTER: Final = (
    "UPDATE iqdb_store SET head_seq = %b, live_count = %b, max_revision = %b, image_rows = %b, image_mix = %b"
    " WHERE one = 1"
)
_MARKS: Final = (
    "SELECT s.head_seq, m.seq, m.token, s.store_id FROM iqdb_store AS s LEFT JOIN iqdb_lineage AS m"
    " ON m.seq = (SELECT max(seq) FROM iqdb_lineage WHERE seq <= %b) WHERE s.one = 1"
)
_FEED_ROWS: Final = (
    "SELECT seq, post_id, revision, state, row_id, digest FROM iqdb_feed WHERE post_id = ANY(%b::bigint[])"
)
_NEWEST_ROW_ID: Final = "SELECT max(id) FROM images"
_PUT_IMAGES: Final = (
    "INSERT INTO images (id, post_id, avglf1, avglf2, avglf3, sig) SELECT * FROM"
    " unnest(%b::bigint[], %b::bigint[], %b::float8[], %b::float8[], %b::float8[], %b::bytea[])"
    " ON CONFLICT (post_id) DO UPDATE SET id = excluded.id, avglf1 = excluded.avglf1,"
    " avglf2 = excluded.avglf2, avglf3 = excluded.avglf3, sig = excluded.sig"
)
_PUT_FEED: Final = (
    "INSERT INTO iqdb_feed (seq, post_id, revision, state, row_id, digest) SELECT * FROM"
    " unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::smallint[], %b::bigint[], %b::bigint[])"
    " ON CONFLICT (post_id) DO UPDATE SET seq = excluded.seq, revision = excluded.revision,"
    " state = excluded.state, row_id = excluded.row_id, digest = excluded.digest"
)
_CHANGES: Final = (
    "SELECT string_agg(int8send(seq), ''), string_agg(int8send(post_id), ''),"
    " string_agg(boolsend(live), ''),"
    " string_agg(float8send(y) || float8send(i) || float8send(q), ''), string_agg(sig, '') FROM ("
    "SELECT f.seq, f.post_id, f.state = 1 AS live,"
    " coalesce(i.avglf1, 0) AS y, coalesce(i.avglf2, 0) AS i, coalesce(i.avglf3, 0) AS q,"
    " coalesce(i.sig, %b::bytea) AS sig FROM iqdb_feed AS f"
    " LEFT JOIN images AS i ON i.id = f.row_id AND f.state = 1 AND octet_length(i.sig) = 240"
    " WHERE f.seq > %b ORDER BY f.seq LIMIT %b) AS change"
)
# backend.pair_mix in SQL.
_FINGERPRINT: Final = (
    "SELECT count(*), coalesce(sum(((id & 16777215) * (post_id & 16777215) + (id & 4294967295)"
    " + (post_id & 4294967295) + (post_id >> 32)) & 4294967295), 0)::bigint FROM images"
)
_COMPARED: Final = (
    "SELECT i.id, i.post_id, i.avglf1, i.avglf2, i.avglf3, i.sig,"
    " f.seq, f.post_id, f.revision, f.state, f.row_id, f.digest"
    " FROM images AS i LEFT JOIN iqdb_feed AS f ON f.post_id = i.post_id"
)
_OLDEST_FIRST: Final = " WHERE i.id > %b ORDER BY i.id ASC LIMIT %b"
_NEWEST_FIRST: Final = " WHERE i.id <= %b ORDER BY i.id DESC LIMIT %b"
_VANISHED: Final = (
    "SELECT seq, post_id, revision, state, row_id, digest FROM iqdb_feed AS f"
    " WHERE post_id > %b AND state <> 0"
    " AND NOT EXISTS (SELECT 1 FROM images AS i WHERE i.post_id = f.post_id)"
    " ORDER BY post_id LIMIT %b"
)


class PostgresBackend:
    """See `backend.Backend`.

    Parameters
    ----------
    address : PostgresAddress
    timeouts : StoreTimeouts
    """

    may_change_elsewhere = False

    def __init__(self, address: PostgresAddress, timeouts: StoreTimeouts) -> None:
        self.name = str(address)
        self._engines = PostgresEngines(address, timeouts)

    def prepare(self) -> None:
        """Refuse an encoding that lacks characters; `check_images` refuses the table of another program."""
        self._engines.check_encoding()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One read transaction, all of whose statements see the same state."""
        with self._engines.errors(), self._engines.reader.connect() as connection:
            self._engines.begin(connection)
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One write transaction, holding the lock of the counter row until it has committed."""
        with self._engines.errors(), self._engines.writer.begin() as connection:
            self._engines.begin(connection)
            _one(connection, _LOCK_COUNTER)  # fails where there is no row, and so no lock
            yield connection

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """One transaction for an upgrade, without a time limit once it has its lock."""
        with self._engines.errors(), self._engines.writer.begin() as connection:
            self._engines.begin(connection)
            _execute(connection, "SELECT pg_advisory_xact_lock(%b)", (_UPGRADE_LOCK,))
            with self._engines.unlimited(connection):
                yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """One read transaction whose statements and pauses may be long."""
        with self.reading() as connection, self._engines.patient(connection):
            yield connection

    @contextlib.contextmanager
    def repairing(self) -> Iterator[sa.Connection]:
        """One upgrade that holds the counter row."""
        with self.upgrading() as connection:
            self.keep_writers_out(connection)
            yield connection

    def keep_writers_out(self, connection: sa.Connection) -> None:
        """Take the lock of the counter row."""
        _one(connection, _LOCK_COUNTER)

    def damage(self, connection: sa.Connection) -> list[str]:  # noqa: ARG002
        """Return nothing: the server looks after its files."""
        return []

    def copy_file(self, path: Path, progress: Callable[[int, int], None] | None) -> bool:  # noqa: ARG002
        """Return False: there is no file to copy."""
        return False

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""
        return Counter(*_one(connection, _COUNTER))

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""
        _execute(connection, _SET_COUNTER, counter)

    def marks(self, connection: sa.Connection, seq: int) -> tuple[int, Mark | None, str]:
        """Return the newest seq, the newest mark at or below `seq`, and the store's id."""
        head_seq, mark_seq, token, store_id = _one(connection, _MARKS, (seq,))
        return head_seq, None if mark_seq is None else Mark(mark_seq, token), str(store_id)

    def store_id(self, connection: sa.Connection) -> str:
        """Return the store's id."""
        return str(_one(connection, "SELECT store_id FROM iqdb_store WHERE one = 1")[0])

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts."""
        found = _execute(connection, _FEED_ROWS, (list(post_ids),)).fetchall()
        return {row[1]: FeedRow(*row) for row in found}

    def before_writes(
        self, connection: sa.Connection, post_ids: Sequence[int]
    ) -> tuple[Counter, Mapping[int, FeedRow], int]:
        """Return all that a group of writes needs to know, in one round trip."""
        with driver_of(connection).pipeline():
            counter = _execute(connection, _COUNTER)
            feed = _execute(connection, _FEED_ROWS, (list(post_ids),))
            newest = _execute(connection, _NEWEST_ROW_ID)
            return (
                counter_of(counter.fetchone()),
                {row[1]: FeedRow(*row) for row in feed.fetchall()},
                (newest.fetchone() or (None,))[0] or 0,
            )

    def pipelined(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """Send all statements of the block before waiting for the end of the first."""
        return driver_of(connection).pipeline()

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows as one statement."""
        _execute(connection, _PUT_IMAGES, _as_arrays(rows))

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows as one statement."""
        _execute(connection, "DELETE FROM images WHERE post_id = ANY(%b::bigint[])", (list(post_ids),))

    def put_feed(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write feed rows as one statement."""
        if rows:
            _execute(connection, _PUT_FEED, _as_arrays(rows))

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return the changes after a cursor, each column packed by the server into one value."""
        batches: list[ChangeBatch] = []
        while limit > 0:
            row = _one(connection, _CHANGES, (columns.NO_POSITIONS, cursor, min(limit, _ROWS_PER_AGGREGATE)))
            if row[0] is None:
                break
            batches.append(_unpack(*row))
            cursor = batches[-1].last_seq
            limit -= len(batches[-1])
        return columns.join_batches(batches)

    def image(self, connection: sa.Connection, post_id: int) -> columns.RawImage | None:
        """Return one post's averages and positions, unchecked."""
        query = "SELECT avglf1, avglf2, avglf3, sig FROM images WHERE post_id = %b"
        found: columns.RawImage | None = _execute(connection, query, (post_id,)).fetchone()
        return found

    def fingerprint(self, connection: sa.Connection) -> tuple[int, int]:
        """Return the number of rows and the sum of their `pair_mix`."""
        rows, mix = _one(connection, _FINGERPRINT)
        return rows, mix

    def compared_rows(
        self, connection: sa.Connection, after: int, limit: int, *, newest_first: bool = False
    ) -> list[ComparedRow]:
        """Return rows of `images` beside the feed's."""
        query = _COMPARED + (_NEWEST_FIRST if newest_first else _OLDEST_FIRST)
        return _execute(connection, query, (after, limit)).fetchall()

    def first_pass(self, connection: sa.Connection) -> None:
        """Return None: tables loaded by hand are rare enough to be looked at row by row."""

    def vanished(self, connection: sa.Connection, after: int, limit: int) -> list[FeedRow]:
        """Return feed rows whose row in `images` is gone."""
        return [FeedRow(*row) for row in _execute(connection, _VANISHED, (after, limit)).fetchall()]

    def close(self) -> None:
        """Close every connection."""
        self._engines.close()


def _execute(connection: sa.Connection, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
    """Run one statement on the driver itself, with binary results."""
    return driver_of(connection).cursor(binary=True).execute(statement.encode(), values)


def _one(connection: sa.Connection, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Return the one row of a statement that reads the counter row, or whose answer always has one."""
    return counter_row(_execute(connection, statement, values).fetchone())


def _as_arrays(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _unpack(seqs: bytes, post_ids: bytes, live: bytes, averages: bytes, positions: bytes) -> ChangeBatch:
    """Turn columns packed by Postgres (big-endian, but for the positions, which are our own) into a batch."""
    batch = ChangeBatch(
        np.frombuffer(seqs, ">i8").astype(np.int64),
        np.frombuffer(post_ids, ">i8").astype(np.int64),
        np.frombuffer(live, np.bool_),
        np.frombuffer(averages, ">f8").astype(np.float64).reshape(-1, CHANNELS),
        np.frombuffer(positions, "<i2").reshape(-1, CHANNELS, KEPT),
    )
    return columns.without_invalid(batch)
