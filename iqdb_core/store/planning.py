"""What do these writes change? The rules of order, revisions and compaction, without a database.

Called by `writing` inside its transaction, with what the feed holds about the ids concerned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from iqdb_core.model import Write, WriteOutcome
from iqdb_core.store.backend import LIVE, TOMBSTONE, Counter, FeedRow, ImageRow, pair_mix
from iqdb_core.store.columns import digests, signature_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class Plan:
    """Everything one transaction writes, and what to tell the callers.

    Parameters
    ----------
    counter : Counter
        As it is after the transaction.
    outcomes : list of WriteOutcome
        In the order of the writes.
    puts : list of ImageRow
    deletes : list of int
        post_ids whose rows go.
    feed : list of FeedRow
        In order of seq.
    sources : dict of int to str
        The new sources of images that are put.
    columns : pair of ndarray
        Averages and positions of the images that are put, (n, 3) float64 and (n, 3, 40) int16.
    """

    counter: Counter
    columns: tuple[NDArray[np.float64], NDArray[np.int16]]
    outcomes: list[WriteOutcome] = field(default_factory=list)
    puts: list[ImageRow] = field(default_factory=list)
    deletes: list[int] = field(default_factory=list)
    feed: list[FeedRow] = field(default_factory=list)
    sources: dict[int, str] = field(default_factory=dict)


def make_plan(
    writes: Sequence[Write], stored: Mapping[int, FeedRow], counter: Counter, newest_row_id: int
) -> Plan:
    """Decide what a batch of writes changes.

    Writes to one id take effect in the order of their revisions; only the last leaves a feed row. One whose
    revision is not newer than what is stored, or than an equal one before it in the batch, is stale.

    Parameters
    ----------
    writes : sequence of Write
        Ids may repeat.
    stored : mapping of int to FeedRow
        The feed's row of each id that has one.
    counter : Counter
        The counter row as locked.
    newest_row_id : int
        Rows that are new to `images` get the ids after it.
    """
    winners, fates = _winners(writes, stored)
    columns = signature_columns([write.signature for write in winners.values() if write.signature])
    images = zip(columns[0].tolist(), digests(*columns), strict=True)
    plan = Plan(counter, columns)
    seqs: dict[int, int] = {}
    seq, live, rows, mix = counter.head_seq, counter.live_count, counter.image_rows, counter.image_mix
    for image_id, write in winners.items():
        seq += 1
        seqs[image_id] = seq
        before = stored.get(image_id)
        row_id = None if before is None else before.row_id
        live -= before is not None and before.state == LIVE
        if write.signature is None:
            if row_id is not None:
                plan.deletes.append(image_id)
                rows -= 1
                mix -= pair_mix(row_id, image_id)
            plan.feed.append(FeedRow(seq, image_id, write.revision, TOMBSTONE, None, 0))
            continue
        if row_id is None:
            newest_row_id += 1
            row_id = newest_row_id
            rows += 1
            mix += pair_mix(row_id, image_id)
        live += 1
        (y, i, q), digest = next(images)
        plan.puts.append(ImageRow(row_id, image_id, y, i, q, write.signature.positions))
        plan.feed.append(FeedRow(seq, image_id, write.revision, LIVE, row_id, digest))
        if write.source is not None:
            plan.sources[image_id] = write.source
    newest = max((write.revision for write in winners.values()), default=0)
    plan.counter = Counter(seq, live, max(counter.max_revision, newest), rows, mix)
    plan.outcomes = [
        WriteOutcome(
            seqs.get(write.image_id) or stored[write.image_id].seq,
            fate in {_Fate.STALE, _Fate.AGAIN},
            fate is _Fate.TAKEN,
            fate is _Fate.AGAIN,
            (winners.get(write.image_id) or stored[write.image_id]).revision,
            plan.counter.max_revision,
        )
        for write, fate in zip(writes, fates, strict=True)
    ]
    return plan


class _Fate(Enum):
    """What becomes of a write; one that is done may be overtaken by a later one of its batch."""

    DONE = auto()
    STALE = auto()
    AGAIN = auto()
    TAKEN = auto()


def _winners(writes: Sequence[Write], stored: Mapping[int, FeedRow]) -> tuple[dict[int, Write], list[_Fate]]:
    """Return for each id the write that stays, and what becomes of each write."""
    winners: dict[int, Write] = {}
    fates = [_Fate.DONE] * len(writes)
    for place in sorted(range(len(writes)), key=lambda place: writes[place].revision):
        write = writes[place]
        before = stored.get(write.image_id)
        earlier = winners.get(write.image_id)
        if _is_again(write, before, earlier):
            fates[place] = _Fate.AGAIN
        elif write.if_absent and write.signature is not None and _is_taken(before, earlier):
            fates[place] = _Fate.TAKEN
        elif (before is not None and write.revision <= before.revision) or (
            earlier is not None and write.revision <= earlier.revision
        ):
            fates[place] = _Fate.STALE
        elif earlier is not None and write.signature and write.source is None:
            # A deletion that nobody sees any more took the source with it.
            source = earlier.source if earlier.signature else ""
            winners[write.image_id] = replace(write, source=source)
        else:
            winners[write.image_id] = write
    return winners, fates


def _is_taken(before: FeedRow | None, earlier: Write | None) -> bool:
    """Tell whether an image has the id: one of the same batch, or the stored one."""
    if earlier is not None:
        return earlier.signature is not None
    return before is not None and before.state == LIVE


def _is_again(write: Write, before: FeedRow | None, earlier: Write | None) -> bool:
    """Tell whether a write was done before, in the same batch or by a worker that committed and died.

    The same revision alone does not tell: two processes may have counted to it at the same moment.
    """
    if earlier is not None:
        return (earlier.revision, earlier.signature) == (write.revision, write.signature)
    if before is None or before.revision != write.revision:
        return False
    if write.signature is None or before.state != LIVE:
        return write.signature is None and before.state == TOMBSTONE
    (digest,) = digests(*signature_columns([write.signature]))
    return before.digest == digest
