"""Tuning options of the index, and their defaults. Knows no environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from iqdb_core.index.segment.layout import SEGMENT_IMAGES
from iqdb_core.machine import usable_cores


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Sizes, thresholds and intervals of one `ImageIndex`.

    Parameters
    ----------
    head_capacity : int
        Rows of the head, which every query reads one by one; a full head is sealed. 1..65,536.
    merge_fan_out : int
        Number of small segments that are merged into one; at least 2.
    max_dead_share : float
        A segment with a larger share of dead images is rewritten; above 0, at most 1.
    concurrent_queries : int
        Queries that scan at once; more wait their turn. At least 1; as many as cores by default.
    query_threads : int
        Most threads that one query may use; at least 1.
    checkpoint_interval_s : float
        Seconds between checkpoints while there are changes; above 0. The first is saved as soon as there is a
        segment.
    checkpoint_changes : int
        This many changes since the last checkpoint trigger one before the interval is over; at least 1.

    Raises
    ------
    ValueError
        A value outside its range.
    """

    head_capacity: int = 1_024
    merge_fan_out: int = 8
    max_dead_share: float = 0.1
    concurrent_queries: int = field(default_factory=usable_cores)
    query_threads: int = 1
    checkpoint_interval_s: float = 300.0
    checkpoint_changes: int = 1_000_000

    def __post_init__(self) -> None:
        self._require("head_capacity", 1 <= self.head_capacity <= SEGMENT_IMAGES, "1..65,536")
        self._require("merge_fan_out", self.merge_fan_out >= 2, "at least 2")
        self._require("max_dead_share", 0 < self.max_dead_share <= 1, "above 0 and at most 1")
        self._require("concurrent_queries", self.concurrent_queries >= 1, "at least 1")
        self._require("query_threads", self.query_threads >= 1, "at least 1")
        self._require("checkpoint_interval_s", self.checkpoint_interval_s > 0, "above 0")
        self._require("checkpoint_changes", self.checkpoint_changes >= 1, "at least 1")

    def _require(self, name: str, is_valid: bool, allowed: str) -> None:
        if not is_valid:
            raise ValueError(f"{name} is {allowed}, not {getattr(self, name)}")
