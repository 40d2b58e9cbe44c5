"""One batch of changes made into the next snapshot's parts, aside, without touching the current one.

Answers: what dies, and where do the new images go? Publishes nothing and holds no lock: `ImageIndex` calls it
from the one thread that applies, and swaps when everything that can fail has succeeded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.disk.sealer import Member
from iqdb_core.index.disk.signature_rows import runs
from iqdb_core.index.head import Head
from iqdb_core.index.options import SEGMENT_IMAGES
from iqdb_core.index.segment.locate import locate
from iqdb_core.model import BUCKETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.disk.sealer import Sealer
    from iqdb_core.index.snapshot import Snapshot
    from iqdb_core.model import ChangeBatch


@dataclass(frozen=True, slots=True)
class Rows:
    """Images as columns, ids strictly ascending.

    Parameters
    ----------
    image_ids : (n,) int64 ndarray
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
    """

    image_ids: NDArray[np.int64]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, which: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        return Rows(self.image_ids[which], self.averages[which], self.positions[which])

    def in_order(self) -> Rows:
        """Return these rows in ascending order of id, for rows that come in another one."""
        return self[np.argsort(self.image_ids, kind="stable")]

    def sorted_with(self, other: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int16]]) -> Rows:
        """Return these rows and others, which share no id with them, in one ascending order."""
        image_ids, averages, positions = other
        if len(image_ids) == 0:
            return self
        return Rows(
            np.concatenate([image_ids, self.image_ids]),
            np.concatenate([averages, self.averages]),
            np.concatenate([positions, self.positions]),
        ).in_order()


@dataclass(frozen=True, slots=True)
class Update:
    """What a batch makes of a snapshot.

    Parameters
    ----------
    members : tuple of Member
        The very tuple of the snapshot if no segment came or changed.
    head : Head
    added : Rows
        The images that became live.
    added_counts : (98,304,) int32 ndarray or None
        How many of the added images hold each bucket, if that is known.
    removed : list of (averages, positions)
        The signatures of the images that died, replaced ones included.
    applied_seq : int
    """

    members: tuple[Member, ...]
    head: Head
    added: Rows
    added_counts: NDArray[np.int32] | None
    removed: list[tuple[NDArray[np.float64], NDArray[np.int16]]]
    applied_seq: int


def updated(snapshot: Snapshot, batch: ChangeBatch, sealer: Sealer) -> Update | None:
    """Work out the next snapshot.

    Parameters
    ----------
    snapshot : Snapshot
        The current one; unchanged.
    batch : ChangeBatch
        Changes that `snapshot` has already applied are passed over.
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
    return Update(members, placed.head, added, placed.added_counts, removed, batch.last_seq)


def _new_changes(batch: ChangeBatch, applied_seq: int) -> tuple[Rows, NDArray[np.bool_]]:
    """Return the changes after `applied_seq`, ascending by id, the newest of each id; and which are live."""
    rows = Rows(batch.image_ids, batch.averages, batch.positions)
    chosen = np.flatnonzero(batch.seqs > applied_seq)
    ids = batch.image_ids[chosen]
    if not (np.diff(ids) > 0).all():
        order = np.argsort(ids, kind="stable")
        is_last = np.append(np.diff(ids[order]) > 0, True)
        chosen = chosen[order[is_last]]
    elif len(chosen) == len(batch):
        return rows, batch.is_live
    return rows[chosen], batch.is_live[chosen]


def _killed(
    snapshot: Snapshot, ids: NDArray[np.int64]
) -> tuple[tuple[Member, ...], Head, list[tuple[NDArray[np.float64], NDArray[np.int16]]]]:
    """Return members and head in which no image of `ids` lives, and the signatures of those that did."""
    removed = []
    head = snapshot.head
    rows = head.find(ids)
    if len(rows):
        removed.append((head.averages[rows], head.positions[rows]))
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
    """New images in their places.

    Parameters
    ----------
    members : tuple of Member
        New segments, often none.
    head : Head
    added_counts : (98,304,) int32 ndarray or None
        How many of the new images hold each bucket, if they became one segment and were counted for it.
    """

    members: tuple[Member, ...]
    head: Head
    added_counts: NDArray[np.int32] | None


def with_added(head: Head, added: Rows, sealer: Sealer) -> Placed:
    """Return new members and a head that hold `added` besides what `head` held.

    What does not fit the head is sealed together with it: whole segments first, then one of the rest, unless
    that fits an empty head.
    """
    if len(added) <= head.n_free:
        return Placed((), head.with_rows(added.image_ids, added.averages, added.positions), None)
    capacity = len(head.image_ids)
    rows = added.sorted_with(head.live_rows())
    n_sealed = (
        len(rows) if len(rows) % SEGMENT_IMAGES >= capacity else len(rows) // SEGMENT_IMAGES * SEGMENT_IMAGES
    )
    is_one_segment = rows is added and len(rows) == n_sealed <= SEGMENT_IMAGES
    counts = np.zeros(BUCKETS, dtype=np.int32) if is_one_segment else None
    members = []
    for start in range(0, n_sealed, SEGMENT_IMAGES):
        part = rows[start : min(start + SEGMENT_IMAGES, n_sealed)]
        members.append(Member.all_alive(sealer.seal(part.image_ids, part.averages, part.positions, counts)))
    rest = rows[n_sealed:]
    new_head = Head.create(capacity).with_rows(rest.image_ids, rest.averages, rest.positions)
    return Placed(tuple(members), new_head, counts)
