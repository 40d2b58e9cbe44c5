"""What must a database offer to hold the store? Records, their invariants, and one Protocol.

Knows no SQL; `sqlite` and `postgres` implement it. The rules of the store are elsewhere (those of writes in
`planning` and `writing`) and use only this interface.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from iqdb_core.errors import StoreIncomplete, StoreInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import sqlalchemy as sa
    from numpy.typing import NDArray

    from iqdb_core.model import ChangeBatch, Mark


BEFORE_ALL: Final = -(2**63)
"""Below every id of a row: IQDB's file may have any."""

# The states of a feed row. Plain integers: sqlite3 binds an IntEnum ten times slower.
TOMBSTONE: Final = 0
LIVE: Final = 1
BROKEN: Final = 2
"""Its row in `images` is no signature: left in place, reported once, read as absent."""


class FeedRow(NamedTuple):
    """One row of the feed.

    `row_id` is `images.id` (None for a tombstone) and `digest` `columns.digests` of that row, so that a
    change made by another program is recognised.
    """

    seq: int
    post_id: int
    revision: int
    state: int
    row_id: int | None
    digest: int


class ImageRow(NamedTuple):
    """One row of IQDB's table, about to be written."""

    row_id: int
    post_id: int
    y_average: float
    i_average: float
    q_average: float
    positions: bytes


class Counter(NamedTuple):
    """The single row whose lock orders all writes.

    Parameters
    ----------
    head_seq : int
        The newest seq given out.
    live_count : int
        Feed rows in state LIVE.
    max_revision : int
        The newest revision ever applied.
    image_rows, image_mix : int
        Number of rows in `images`, and the sum of their `pair_mix`: what `images` must look like if nobody
        else wrote to it.
    """

    head_seq: int
    live_count: int
    max_revision: int
    image_rows: int
    image_mix: int


_NEARLY_ALL: Final = 2**63 - 2**32
"""No store ever counts this far, and above it there is room for what a group of writes adds."""
_MOST_COUNTED: Final = Counter(_NEARLY_ALL, _NEARLY_ALL, 2**63 - 1, _NEARLY_ALL, _NEARLY_ALL)
"""Revisions come from outside, and may be any number."""


class Contents(NamedTuple):
    """Rows of `images`, all of them ordinary signatures, as columns.

    Parameters
    ----------
    row_ids : (n,) int64 ndarray
        Ascending.
    post_ids : (n,) int64 ndarray
        At least 0.
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
    """

    row_ids: NDArray[np.int64]
    post_ids: NDArray[np.int64]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]


class Look(NamedTuple):
    """A look at consecutive rows of `images`.

    Parameters
    ----------
    n_rows : int
    after : int
        A row id below the first, and not below any before it.
    contents : Contents or None
        What they are. None if they have to be looked at one by one: one of them is no ordinary signature, or
        their row ids are far apart.
    """

    n_rows: int
    after: int
    contents: Contents | None


class FirstPass(NamedTuple):
    """All that a database has to do at a first takeover, for two threads.

    Parameters
    ----------
    looks : generator of Look
        At all of `images` by ascending id, through a connection of its own.
    fill : callable of Contents
        Appends a live feed row for each of these rows.
    """

    looks: Generator[Look]
    fill: Callable[[Contents], None]


ComparedRow = tuple[Any, ...]
"""One row of `images` as it is (id, post_id, avglf1, avglf2, avglf3, sig), and what the feed knows
of its post (the fields of a FeedRow, all None where it knows nothing)."""


def image_columns(compared: Sequence[ComparedRow]) -> list[tuple[Any, ...]]:
    """Return the columns avglf1, avglf2, avglf3 and sig of rows, of which there is one at least."""
    return list(zip(*compared, strict=True))[2:6]


def known_of(row: ComparedRow) -> FeedRow | None:
    """Return what the feed knows of a row's post."""
    return None if row[6] is None else FeedRow(*row[6:])


def live_among(backend: Backend, connection: sa.Connection, image_ids: Sequence[int]) -> set[int]:
    """Return those ids that live images have."""
    return {row.post_id for row in backend.feed_rows(connection, image_ids).values() if row.state == LIVE}


def counter_row(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """Return what was read of the counter row, which every store has.

    Raises
    ------
    StoreIncomplete
        It is not there: a restore makes tables long before it fills them.
    """
    if row is None:
        raise StoreIncomplete("the table iqdb_store is empty, as while a backup is put back")
    return row


def counter_of(row: tuple[Any, ...] | None) -> Counter:
    """Return the counter row as a Counter, after checking that counting can go on from it.

    Raises
    ------
    StoreIncomplete
        As from `counter_row`.
    StoreInvalid
        Another program has written numbers that no store reaches.
    """
    counter = Counter(*counter_row(row))
    for value, most in zip(counter, _MOST_COUNTED, strict=True):
        if not isinstance(value, int) or not 0 <= value <= most:
            raise StoreInvalid(f"the counter of the store makes no sense, see iqdb check --repair: {counter}")
    return counter


def pair_mix(row_id: int, post_id: int) -> int:
    """Return 32 bits that depend on which post has which row; the backends compute the same in SQL."""
    low = (row_id & 0xFFFFFF) * (post_id & 0xFFFFFF)
    return (low + (row_id & 0xFFFFFFFF) + (post_id & 0xFFFFFFFF) + (post_id >> 32)) & 0xFFFFFFFF


class Backend(Protocol):
    """A database that holds the store.

    `reading`, `writing` and `upgrading` open one transaction each; the last two commit at the end of the
    block and roll back if it raises. Errors of the driver leave them as StoreError.
    """

    name: str
    """Which database this is, for people; without a password."""
    may_change_elsewhere: bool
    """Whether other programs (IQDB) may have written to `images` since we closed the database."""

    def prepare(self) -> None:
        """Refuse a database of another program before anything in it is changed; make one that is missing."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """One transaction that sees one state of the database."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """One transaction that no other writer overlaps, durable when the block has ended."""

    def upgrading(self) -> AbstractContextManager[sa.Connection]:
        """One transaction without a time limit that no other upgrade overlaps; needs none of our tables."""

    def snapshot(self) -> AbstractContextManager[sa.Connection]:
        """Do as `reading`, for work that takes minutes and whose reader may be slow."""

    def repairing(self) -> AbstractContextManager[sa.Connection]:
        """Do as `upgrading`, and keep writers out."""

    def keep_writers_out(self, connection: sa.Connection) -> None:
        """Let nobody else write until the transaction of an upgrade has ended; needs our tables."""

    def damage(self, connection: sa.Connection) -> list[str]:
        """Return what is wrong with the database as a file, in its own words; empty if nothing is."""

    def copy_file(self, path: Path, progress: Callable[[int, int], None] | None) -> bool:
        """Copy the database's file as it is at one moment; False if there is none, and rows must be read."""

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""

    def marks(self, connection: sa.Connection, seq: int) -> tuple[int, Mark | None, str]:
        """Return the newest seq given out, the newest mark at or below `seq`, and `store_id`."""

    def store_id(self, connection: sa.Connection) -> str:
        """Return the name the database got when it became a store."""

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts, by post_id."""

    def before_writes(
        self, connection: sa.Connection, post_ids: Sequence[int]
    ) -> tuple[Counter, Mapping[int, FeedRow], int]:
        """Return `counter`, `feed_rows` and the largest `images.id` (0: none), with little waiting.

        Inside a write transaction: until it has committed, nobody else writes.
        """

    def pipelined(self, connection: sa.Connection) -> AbstractContextManager[object]:
        """Send the statements of the block, none of which returns rows, without waiting for each."""

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows, replacing whatever has the same id or post_id."""

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows; those that are not there are no error."""

    def put_feed(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows (the fields of FeedRow) in the order of their seq, replacing those of the same posts."""

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return up to `limit` changes with a seq above `cursor`, in order of seq."""

    def image(self, connection: sa.Connection, post_id: int) -> tuple[Any, Any, Any, Any] | None:
        """Return the averages and positions of one post as they are in `images`, unchecked."""

    def fingerprint(self, connection: sa.Connection) -> tuple[int, int]:
        """Return what `Counter.image_rows` and `Counter.image_mix` would be for `images` as it is."""

    def compared_rows(
        self, connection: sa.Connection, after: int, limit: int, *, newest_first: bool = False
    ) -> list[ComparedRow]:
        """Return up to `limit` rows of `images` by id, above `after` (newest first: down from it)."""

    def first_pass(self, connection: sa.Connection) -> FirstPass | None:
        """Return what fills a feed that knows nothing; None if the database cannot do so by itself."""

    def vanished(self, connection: sa.Connection, after: int, limit: int) -> list[FeedRow]:
        """Return feed rows of posts above `after` that should have a row in `images` and have none."""

    def close(self) -> None:
        """Close every connection."""
