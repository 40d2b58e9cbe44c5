"""The store, written for obviousness: a dict and a counter. Must agree exactly with every database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iqdb_core.model import Signature, Write, WriteOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqdb_core.model import ChangeBatch


@dataclass
class NaiveStore:
    """What a store must hold: the newest write of each image, and the order in which they came."""

    latest: dict[int, Write] = field(default_factory=dict)
    seqs: dict[int, int] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)
    head_seq: int = 0

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        """Apply writes one by one in the order of their revisions; then number the images that changed."""
        stale = {}
        taken = {}
        changed: dict[int, None] = {}
        for place, write in sorted(enumerate(writes), key=lambda item: item[1].revision):
            newest = self.latest.get(write.image_id)
            is_live = newest is not None and newest.signature is not None
            is_again = is_live and (newest.revision, newest.signature) == (write.revision, write.signature)
            is_picture = write.signature is not None
            taken[place] = write.if_absent and is_picture and is_live and not is_again
            is_newer = newest is None or write.revision > newest.revision
            stale[place] = not is_newer and not taken[place]
            if is_newer and not taken[place]:
                self.latest[write.image_id] = write
                changed.setdefault(write.image_id)
                if write.signature is None:
                    self.sources.pop(write.image_id, None)
                elif write.source is not None:
                    self.sources.pop(write.image_id, None)
                    if write.source:
                        self.sources[write.image_id] = write.source
        for image_id in changed:
            self.head_seq += 1
            self.seqs[image_id] = self.head_seq
        return [
            WriteOutcome(self.seqs[write.image_id], stale[place], taken[place])
            for place, write in enumerate(writes)
        ]

    def live(self) -> dict[int, Signature]:
        """Return the images that are there."""
        return {
            image_id: write.signature
            for image_id, write in self.latest.items()
            if write.signature is not None
        }

    def changes_since(self, cursor: int, limit: int) -> list[tuple[int, int, Signature | None]]:
        """Return (seq, image_id, signature or None for a tombstone)."""
        newer = sorted((seq, image_id) for image_id, seq in self.seqs.items() if seq > cursor)
        return [(seq, image_id, self.latest[image_id].signature) for seq, image_id in newer[:limit]]


def as_changes(batch: ChangeBatch) -> list[tuple[int, int, Signature | None]]:
    """Return a batch in the shape of `NaiveStore.changes_since`."""
    changes: list[tuple[int, int, Signature | None]] = []
    for row in range(len(batch)):
        signature = None
        if batch.is_live[row]:
            y, i, q = batch.averages[row].tolist()
            signature = Signature((y, i, q), batch.positions[row].astype("<i2").tobytes())
        else:
            assert not batch.averages[row].any()
            assert not batch.positions[row].any()
        changes.append((int(batch.seqs[row]), int(batch.image_ids[row]), signature))
    return changes
