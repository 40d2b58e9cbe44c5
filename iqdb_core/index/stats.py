"""Statistics of an index. A value, without behaviour; made by `ImageIndex.stats`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iqdb_core.index.upkeep.maintenance import State


@dataclass(frozen=True, slots=True)
class IndexStats:
    """Statistics of an index at one moment.

    Parameters
    ----------
    images : int
        Live images.
    applied_seq : int
        Every change up to this seq is findable.
    segments : int
        Sealed segments.
    head_rows : int
        Rows of the head, dead ones included.
    dead_images : int
        Deleted images that still take memory.
    resident_bytes : int
        Memory of segments, bitmaps and head; without the interpreter and what queries use while they run.
    checkpoint_seq : int or None
        `applied_seq` of the checkpoint on disk; None without one.
    checkpoint_age_s : float or None
        Seconds since the checkpoint on disk was saved; None without one.
    checkpoint_refused : str or None
        Why the checkpoint found at the start was not used.
    maintenance : {"off", "running", "failed"}
        After "failed" the server needs a restart: queries and updates continue, but segments accumulate and
        nothing is saved.
    maintenance_error : str or None
        The last error, until maintenance succeeds again.
    """

    images: int
    applied_seq: int
    segments: int
    head_rows: int
    dead_images: int
    resident_bytes: int
    checkpoint_seq: int | None
    checkpoint_age_s: float | None
    checkpoint_refused: str | None
    maintenance: State
    maintenance_error: str | None
