"""Ranking, in its compiled and its plain form.

Answers: who finds the best matches of a signature? What it takes and returns is said where the compiled form
is, in `search`. Called by `Snapshot`.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.rows import HeadRows
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.model import Signature

MIN_SHARED_SEGMENTS: Final = 12
"""A thread has at least so many segments to scan: handing over fewer takes longer than it saves."""

Columns = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]
"""Image ids, scores, segments and documents of matches."""


class _Search(Protocol):
    def __call__(
        self,
        table: SegmentTable,
        head: HeadRows,
        signature: Signature,
        *,
        limit: int,
        nonempty: NDArray[np.bool_],
        min_score: float | None = None,
        is_sketch: bool = False,
        threads: QueryThreads,
    ) -> Columns: ...


search: Final[_Search] = two_forms(
    compiled="iqdb_core.index.ranking.search:search", plain="iqdb_core.index.plain.ranking:search"
)
