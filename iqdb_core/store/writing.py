"""How does a group of writes become one transaction? Checks and plans them, and writes the plan.

Called by `SignatureStore.apply` and by the bulk copy, each inside a transaction of its own.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.codec import check_source, positions_are_valid
from iqdb_core.errors import InvalidHash, InvalidImageId, StoreInvalid
from iqdb_core.model import MAX_IMAGE_ID, POSITION_BYTES, ChangeBatch, FeedState
from iqdb_core.store import lineage, sources
from iqdb_core.store.backend import LIVE
from iqdb_core.store.columns import absent_columns
from iqdb_core.store.planning import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from iqdb_core.model import Mark, Write, WriteOutcome
    from iqdb_core.store.backend import Backend
    from iqdb_core.store.planning import Plan


def check_writes(writes: Sequence[Write]) -> None:
    """Refuse what would fail inside the transaction, and take others with it, or what no index could use.

    Raises
    ------
    InvalidImageId, InvalidHash, InvalidSource
    """
    for write in writes:
        if not 0 <= write.image_id <= MAX_IMAGE_ID:
            raise InvalidImageId(f"an image id is 0..2**63-1, not {write.image_id}")
        if write.source is not None:
            check_source(write.source)
    signatures = [write.signature for write in writes if write.signature is not None]
    if not all(map(math.isfinite, chain.from_iterable([signature.averages for signature in signatures]))):
        raise InvalidHash("the averages of a signature are finite numbers")
    if any(len(signature.positions) != POSITION_BYTES for signature in signatures) or not positions_are_valid(
        np.frombuffer(b"".join(signature.positions for signature in signatures), "<i2")
    ):
        raise InvalidHash("the positions of a signature are 120 numbers +-1..16383")


def apply_writes(backend: Backend, connection: sa.Connection, writes: Sequence[Write]) -> list[WriteOutcome]:
    """Apply checked writes inside a write transaction; returns one outcome per write, in their order."""
    return _write(backend, connection, writes).plan.outcomes


def apply_and_read(
    backend: Backend, connection: sa.Connection, writes: Sequence[Write]
) -> tuple[list[WriteOutcome], ChangeBatch]:
    """Do as `apply_writes`, and return what the feed says of it, without reading it again."""
    plan, before_seq, written = _write(backend, connection, writes)
    _, before, _ = backend.marks(connection, before_seq)
    return plan.outcomes, _batch(plan, FeedState(plan.counter.head_seq, before, written or before))


def _batch(plan: Plan, feed: FeedState) -> ChangeBatch:
    """Return what a plan adds to the feed."""
    n = len(plan.feed)
    averages, positions = plan.columns
    is_live = np.ones(n, np.bool_)
    if len(plan.puts) < n:
        is_live[:] = [row.state == LIVE for row in plan.feed]
        put, (averages, positions) = (averages, positions), absent_columns(n)
        averages[is_live], positions[is_live] = put
    seqs = np.arange(feed.head_seq - n, feed.head_seq, dtype=np.int64) + 1
    ids = np.fromiter([row.post_id for row in plan.feed], np.int64, n)
    return ChangeBatch(seqs, ids, is_live, averages, positions, feed)


class _Written(NamedTuple):
    """What was written: a plan, after the newest seq before it, with a mark or none."""

    plan: Plan
    before_seq: int
    mark: Mark | None


def _write(backend: Backend, connection: sa.Connection, writes: Sequence[Write]) -> _Written:
    """Plan and write."""
    ids = list({write.image_id: None for write in writes})
    counter, stored, newest_row_id = backend.before_writes(connection, ids)
    if newest_row_id > MAX_IMAGE_ID - len(ids):
        raise StoreInvalid(f"{backend.name} has a row {newest_row_id} in images: no id is left for another")
    plan = make_plan(writes, stored, counter, newest_row_id)
    if plan.deletes:
        backend.delete_images(connection, plan.deletes)
        sources.remove(connection, plan.deletes)
    if plan.sources:
        sources.write(connection, plan.sources)
    mark = None
    if plan.feed:
        mark = lineage.mark(connection, counter.head_seq, plan.counter.head_seq)
        with backend.pipelined(connection):
            if plan.puts:
                backend.put_images(connection, plan.puts)
            backend.put_feed(connection, plan.feed)
            backend.set_counter(connection, plan.counter)
    return _Written(plan, counter.head_seq, mark)
