"""Turns a batch of changes into the parts of the next snapshot, without touching the current one.

Publishes nothing and holds no lock: `ImageIndex` calls it from one thread at a time, and swaps snapshots when
everything that can fail has succeeded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.disk.signature_rows import runs
from iqdb_core.index.head import Head
from iqdb_core.index.rows import Rows, Signatures
from iqdb_core.index.segment.arithmetic import locate
from iqdb_core.index.segment.layout import SEGMENT_IMAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.disk.sealer import NewMember, Sealer
    from iqdb_core.index.segment.member import Member
    from iqdb_core.index.snapshot import Snapshot
    from iqdb_core.model import ChangeBatch, Mark


@dataclass(frozen=True, slots=True)
class Update:
    """The parts of the next snapshot.

    Parameters
    ----------
    members : tuple of Member
        The same tuple object as the snapshot's if no segment was added or changed.
    head : Head
    added : Rows
        The images that became live.
    added_counts : (98,304,) int32 ndarray or None
        How many of the added images hold each bucket; None if they have not been counted.
    removed : list of Signatures
        The images that died, replaced ones included.
    applied_seq : int
    lineage : Mark or None
        The newest mark of the store at or below `applied_seq`; None if the batch has none.
    """

    members: tuple[Member, ...]
    head: Head
    added: Rows
    added_counts: NDArray[np.int32] | None
    removed: list[Signatures]
    applied_seq: int
    lineage: Mark | None


def updated(snapshot: Snapshot, batch: ChangeBatch, sealer: Sealer) -> Update | None:
    """Compute the next snapshot.

    Parameters
    ----------
    snapshot : Snapshot
        The current one; unchanged.
    batch : ChangeBatch
        Changes that `snapshot` already contains are skipped.
    sealer : Sealer
        Makes segments when the head overflows.

    Returns
    -------
    Update or None
        None if there is nothing new.

    Raises
    ------
    OSError, IndexStateError
        Signatures could not be written or read.
    """
    added, is_live = _new_changes(batch, snapshot.applied_seq)
    if len(added) == 0:
        return None
    members, head, removed = _killed(snapshot, added.image_ids)
    if not is_live.all():
        added = added[is_live]
    placed = with_added(head, added, sealer)
    members = members + placed.members if placed.members else members
    lineage = None if batch.feed is None else batch.feed.after
    return Update(members, placed.head, added, placed.added_counts, removed, batch.last_seq, lineage)


def _new_changes(batch: ChangeBatch, applied_seq: int) -> tuple[Rows, NDArray[np.bool_]]:
    """Return the newest change of each id after `applied_seq`, ascending by id, and which ones are live."""
    new = slice(int(np.searchsorted(batch.seqs, applied_seq, "right")), None)
    rows, is_live = Rows(batch.image_ids, batch.averages, batch.positions)[new], batch.is_live[new]
    ids = rows.image_ids
    if len(ids) < 2 or (ids[1:] > ids[:-1]).all():
        return rows, is_live
    order = np.argsort(ids, kind="stable")
    chosen = order[np.append(np.diff(ids[order]) > 0, True)]
    return rows[chosen], is_live[chosen]


def _killed(snapshot: Snapshot, ids: NDArray[np.int64]) -> tuple[tuple[Member, ...], Head, list[Signatures]]:
    """Return members and head with all images of `ids` dead, and the signatures of those that were alive."""
    removed = []
    head = snapshot.head
    rows = head.find(ids)
    if len(rows):
        removed.append(Signatures(head.averages[rows], head.positions[rows]))
        head = head.without(rows)
    segments, documents = locate(snapshot.table, ids)
    if len(segments) == 0:
        return snapshot.members, head, removed
    members = list(snapshot.members)
    edges = np.flatnonzero(np.diff(segments, prepend=-1, append=-1))
    dying = [
        (int(segments[start]), documents[start:stop].astype(np.int64))
        for start, stop in itertools.pairwise(edges.tolist())
    ]
    for segment_no, doc_ids in dying:
        for first, last in runs(doc_ids):
            members[segment_no].sealed.rows.prefetch(int(doc_ids[first]), int(doc_ids[last - 1]))
    for segment_no, doc_ids in dying:
        removed.append(members[segment_no].sealed.rows.read(doc_ids))
        members[segment_no] = members[segment_no].without(doc_ids)
    return tuple(members), head, removed


class Placed(NamedTuple):
    """Where new images went.

    Parameters
    ----------
    members : tuple of Member
        New segments, often none.
    head : Head
    added_counts : (98,304,) int32 ndarray or None
        How many of the new images hold each bucket, if these alone became one segment, which counted them;
        else None.
    """

    members: tuple[Member, ...]
    head: Head
    added_counts: NDArray[np.int32] | None


def with_added(head: Head, added: Rows, sealer: Sealer) -> Placed:
    """Return new members and a head that contain `added` and the content of `head`.

    If the head has too little room, everything is sealed: full segments first, then one segment of the rest,
    unless the rest fits into an empty head.
    """
    if len(added) <= head.n_free:
        return Placed((), head.with_rows(added), None)
    capacity = len(head.image_ids)
    rows = added.sorted_with(head.live_rows())
    n_sealed = (
        len(rows) if len(rows) % SEGMENT_IMAGES >= capacity else len(rows) // SEGMENT_IMAGES * SEGMENT_IMAGES
    )
    made: list[NewMember] = []
    try:
        for start in range(0, n_sealed, SEGMENT_IMAGES):
            made.append(sealer.seal(rows[start : min(start + SEGMENT_IMAGES, n_sealed)]))  # noqa: PERF401 - kept
    except BaseException:
        sealer.directory.remove(new.member.sealed.number for new in made)
        raise
    # Images of the head were counted when they arrived, so counts that include them cannot be used.
    is_counted = rows is added and len(made) == 1 and n_sealed == len(rows)
    return Placed(
        tuple(new.member for new in made),
        Head.create(capacity).with_rows(rows[n_sealed:]),
        made[0].counts if is_counted else None,
    )
