"""Exact ranking over all segments and the head.

Answers: which live images are most like this signature? Never changes an index. Called by `Snapshot`, from any
number of threads at once; the GIL is released for nearly all of the time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.kernel_best import create_best
from iqdb_core.index.kernel_head import HeadRows, create_weights
from iqdb_core.index.kernel_query import create_query
from iqdb_core.index.kernel_resolve import Found, create_found
from iqdb_core.index.kernel_search import search_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.segment import Segment
    from iqdb_core.model import Signature


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Where the segments of a snapshot are in memory, so that compiled code finds them all in one call.

    Parameters
    ----------
    segments : tuple of Segment
    alive : tuple of (n_words,) uint64 ndarray
        Bit per document; bits behind the last are not looked at.
    addresses : (n_segments, 4) uint64 ndarray
        Address and length of each segment's words, and of its alive bitmap.
    """

    segments: tuple[Segment, ...]
    alive: tuple[NDArray[np.uint64], ...]
    addresses: NDArray[np.uint64]

    @classmethod
    def create(cls, segments: Sequence[Segment], alive: Sequence[NDArray[np.uint64]]) -> SegmentTable:
        """Make a table, which keeps its segments alive.

        Raises
        ------
        ValueError
            An alive bitmap is not `n_words` contiguous words of its segment.
        """
        addresses = np.zeros((len(segments), 4), dtype=np.uint64)
        for row, segment, bits in zip(addresses, segments, alive, strict=True):
            if bits.dtype != np.uint64 or bits.shape != (segment.n_words,) or not bits.flags.c_contiguous:
                raise ValueError(f"an alive bitmap is {segment.n_words} contiguous uint64 words")
            row[:] = (segment.words.ctypes.data, len(segment.words), bits.ctypes.data, len(bits))
        addresses.flags.writeable = False
        return cls(tuple(segments), tuple(alive), addresses)


class _Scratch(threading.local):
    """What one thread needs to search, kept between queries."""

    def __init__(self) -> None:
        self.query = create_query()
        self.weights = create_weights()
        self.n_segments = 0
        self.found = create_found(0)

    def found_for(self, n_segments: int) -> Found:
        """Return scratch with room for so many segments."""
        if n_segments > self.n_segments:
            self.n_segments = n_segments + _SPARE_SEGMENTS
            self.found = create_found(self.n_segments)
        return self.found


_scratch: Final = _Scratch()
_SPARE_SEGMENTS: Final = 32


def search(
    table: SegmentTable,
    head_ids: NDArray[np.int64],
    head_averages: NDArray[np.float64],
    head_positions: NDArray[np.int16],
    head_alive: NDArray[np.bool_],
    signature: Signature,
    *,
    limit: int,
    nonempty: NDArray[np.bool_],
    min_score: float | None = None,
    n_threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Return the live images most like a signature."""
    scratch = _scratch
    best = create_best(limit)
    search_all(
        table.addresses,
        HeadRows(head_ids, head_averages, head_positions, head_alive),
        signature.signed_positions(),
        signature.averages,
        signature.is_grey,
        nonempty,
        -np.inf if min_score is None else min_score,
        scratch.query,
        scratch.found_for(len(table.segments)),
        scratch.weights,
        best,
    )
    count = best.count[0]
    return best.image_ids[:count], best.scores[:count], best.segments[:count], best.documents[:count]
