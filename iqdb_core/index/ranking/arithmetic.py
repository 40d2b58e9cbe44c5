"""Ranking, in its compiled and its plain form.

Searches the best matches of a signature, or images that share rare buckets with several signatures.
Parameters and results are described at the compiled forms, in `search` and `sharers`. Called by `Snapshot`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.rows import HeadRows
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.model import Signature

MIN_SHARED_SEGMENTS: Final = 12
"""Minimum of segments per thread: handing fewer to another thread takes longer than it saves."""

Columns = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]
"""Image ids, scores, segments and documents of matches."""


MOST_BITS: Final = 255
"""Limit of the sum of an image's distinctive buckets, which is kept in one byte."""
_MOST_SIGNATURES: Final = 250
"""Places of buckets, 120 per signature, have to fit into int16."""


class DistinctiveBuckets(NamedTuple):
    """The distinctive buckets of m signatures, and how many bits an image has to share of them.

    Parameters
    ----------
    buckets, bits : (m, 120) int64 ndarray
        Buckets, no bucket twice in a row, and how many bits sharing each is worth, 1..255.
    counts : (m,) int64 ndarray
        Number of distinctive buckets, which come first in each row, the rarest first.
    ends : (m,) int64 ndarray
        Number of buckets of each row that are used, at most 120. Those from `counts` on are common ones,
        which count only for images that reach the bar.
    bar : int
        Bits of distinctive buckets that an image has to share to be found, 1..255.
    """

    buckets: NDArray[np.int64]
    bits: NDArray[np.int64]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    bar: int

    def max_bits(self) -> NDArray[np.int64]:
        """Return for each signature, (m,), the bits of an image that holds all of its buckets."""
        place = np.arange(self.bits.shape[1])
        is_distinctive = place < self.counts[:, None]
        distinctive = np.where(is_distinctive, self.bits, 0).sum(axis=1)
        common = np.where(~is_distinctive & (place < self.ends[:, None]), self.bits, 0).sum(axis=1)
        bits: NDArray[np.int64] = np.minimum(distinctive, MOST_BITS) + common
        return bits

    def check(self, limit: int) -> None:
        """Raise ValueError for a limit below 1, a bar out of range, or too many signatures."""
        m = len(self.counts)
        if limit < 1 or not 1 <= self.bar <= MOST_BITS or m > _MOST_SIGNATURES:
            raise ValueError(f"limit {limit} or bar {self.bar} out of range, or {m} signatures are too many")


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


class _FindSharers(Protocol):
    def __call__(
        self,
        table: SegmentTable,
        head: HeadRows,
        distinctive: DistinctiveBuckets,
        *,
        limit: int,
        threads: QueryThreads,
    ) -> list[Columns]: ...


search: Final[_Search] = two_forms(
    compiled="iqdb_core.index.ranking.search:search", plain="iqdb_core.index.plain.ranking:search"
)
find_sharers: Final[_FindSharers] = two_forms(
    compiled="iqdb_core.index.ranking.sharers:find_sharers",
    plain="iqdb_core.index.plain.sharers:find_sharers",
)
