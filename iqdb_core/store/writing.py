"""How does a group of writes become one transaction? Checks and plans them, and writes the plan.

Called by `SignatureStore.apply` and by the bulk copy, each inside a transaction of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.errors import InvalidHash, InvalidImageId, StoreInvalid
from iqdb_core.model import MAX_IMAGE_ID, POSITION_BYTES, FeedState
from iqdb_core.store import lineage, sources
from iqdb_core.store.backend import LIVE
from iqdb_core.store.columns import positions_are_valid, to_batch
from iqdb_core.store.planning import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from iqdb_core.model import ChangeBatch, Write, WriteOutcome
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
            sources.check_source(write.source)
    signatures = [write.signature for write in writes if write.signature is not None]
    if not np.isfinite(np.array([signature.averages for signature in signatures], np.float64)).all():
        raise InvalidHash("the averages of a signature are finite numbers")
    if any(len(signature.positions) != POSITION_BYTES for signature in signatures) or not positions_are_valid(
        np.frombuffer(b"".join(signature.positions for signature in signatures), "<i2")
    ):
        raise InvalidHash("the positions of a signature are 120 numbers +-1..16383")


def apply_writes(backend: Backend, connection: sa.Connection, writes: Sequence[Write]) -> list[WriteOutcome]:
    """Apply checked writes inside a write transaction; returns one outcome per write, in their order."""
    return _write(backend, connection, writes)[0].outcomes


def apply_and_read(
    backend: Backend, connection: sa.Connection, writes: Sequence[Write]
) -> tuple[list[WriteOutcome], ChangeBatch]:
    """Do as `apply_writes`, and return what the feed says of it, without reading it again."""
    plan, before_seq = _write(backend, connection, writes)
    images = iter(plan.puts)
    absent = (None, None, None, None)
    batch = to_batch(
        [(row.seq, row.post_id, *(next(images)[2:] if row.state == LIVE else absent)) for row in plan.feed]
    )
    head_seq, before = backend.marks(connection, before_seq)
    _, after = backend.marks(connection, plan.counter.head_seq)
    return plan.outcomes, replace(batch, feed=FeedState(head_seq, before, after))


def _write(backend: Backend, connection: sa.Connection, writes: Sequence[Write]) -> tuple[Plan, int]:
    """Plan and write; return the plan, and the newest seq before it."""
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
    if plan.feed:
        lineage.mark(connection, counter.head_seq, plan.counter.head_seq)
        with backend.together(connection):
            if plan.puts:
                backend.put_images(connection, plan.puts)
            backend.put_feed(connection, plan.feed)
            backend.set_counter(connection, plan.counter)
    return plan, counter.head_seq
