"""What must a database offer to carry the store? Records and one Protocol, which `sqlite` and `postgres` implement.

Knows no SQL. `signature_store` holds the rules and speaks only to this interface.
"""

from __future__ import annotations

import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import sqlalchemy as sa

    from iqdb_core.model import ChangeBatch

_AVERAGES: Final = Struct("<3d")


class FeedState(IntEnum):
    """What the feed's latest word on an image is."""

    TOMBSTONE = 0
    LIVE = 1
    BROKEN = 2
    """Its row in `images` is no signature: left in place, reported once, read as absent."""


class FeedRow(NamedTuple):
    """One row of the feed.

    `row_id` is `images.id` (None for a tombstone) and `digest` the `row_digest` of that row's contents, so
    that a change made by another program is recognised.
    """

    seq: int
    post_id: int
    revision: int
    state: FeedState
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


@dataclass(frozen=True, slots=True)
class Counter:
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


def pair_mix(row_id: int, post_id: int) -> int:
    """Return 32 bits that depend on which post has which row; SQLite computes the same in `sqlite.PAIR_MIX`."""
    low = (row_id & 0xFFFFFF) * (post_id & 0xFFFFFF)
    return (low + (row_id & 0xFFFFFFFF) + (post_id & 0xFFFFFFFF) + (post_id >> 32)) & 0xFFFFFFFF


def row_digest(averages: tuple[float, float, float], positions: bytes) -> int:
    """Return a CRC-32 of a row's contents."""
    return zlib.crc32(positions, zlib.crc32(_AVERAGES.pack(*averages)))


class Backend(Protocol):
    """A database that carries the store.

    `reading` and `writing` open one transaction each. `writing` holds the lock of the counter row until it
    has committed; it commits at the end of the block and rolls back if the block raises. Driver errors
    leave every method as StoreError.
    """

    name: str

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """One transaction that sees one state of the database."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """One transaction that no other writer overlaps, durable when the block has ended."""

    def counter(self, connection: sa.Connection) -> Counter:
        """Return the counter row."""

    def set_counter(self, connection: sa.Connection, counter: Counter) -> None:
        """Write the counter row."""

    def store_id(self, connection: sa.Connection) -> str:
        """Return the name the database got when it became a store."""

    def newest_row_id(self, connection: sa.Connection) -> int:
        """Return the largest `images.id`, 0 when there is none."""

    def feed_rows(self, connection: sa.Connection, post_ids: Sequence[int]) -> Mapping[int, FeedRow]:
        """Return the feed's rows for these posts, by post_id."""

    def put_images(self, connection: sa.Connection, rows: Sequence[ImageRow]) -> None:
        """Write rows, replacing whatever has the same id or post_id."""

    def delete_images(self, connection: sa.Connection, post_ids: Sequence[int]) -> None:
        """Remove rows; those that are not there are no error."""

    def put_feed(self, connection: sa.Connection, rows: Iterable[FeedRow]) -> None:
        """Write feed rows in the order of their seq, replacing those of the same posts."""

    def changes(self, connection: sa.Connection, cursor: int, limit: int) -> ChangeBatch:
        """Return up to `limit` changes with a seq above `cursor`, in order of seq."""

    def image(self, connection: sa.Connection, post_id: int) -> tuple[float, float, float, bytes] | None:
        """Return the averages and positions of one post as they are in `images`, unchecked."""

    def upgrade(self, progress: Callable[[int, int], None] | None) -> None:
        """Make the database a store of the current schema, taking over what IQDB left in it."""

    def close(self) -> None:
        """Give back every connection."""
