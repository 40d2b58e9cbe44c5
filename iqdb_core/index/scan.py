"""Exact ranking over all segments and the head.

Answers: which live images are most like this signature? Never changes an index. Called by `Snapshot`, from any number of threads at
once; the GIL is released for nearly all of the time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from iqdb_core.index.build import stored_averages
from iqdb_core.index.kernel_best import Best, create_best, offer, sort_best, start_best
from iqdb_core.index.kernel_head import HeadRows, create_weights, scan_head
from iqdb_core.index.kernel_query import Query, create_query, prepare
from iqdb_core.index.kernel_resolve import Found, create_found
from iqdb_core.index.kernel_scan import scan_segment
from iqdb_core.index.kernel_words import words_at
from iqdb_core.index.layout import H_IDS_AT, H_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.segment import Segment
    from iqdb_core.model import Signature

_WORDS, _N_WORDS, _ALIVE, _N_ALIVE_WORDS = range(4)


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
        self.found = create_found()
        self.weights = create_weights()


_scratch: Final = _Scratch()


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
    averages = stored_averages(np.array(signature.averages)).astype(np.float64)
    head = HeadRows(head_ids, head_averages, head_positions, head_alive)
    _search(
        table.addresses,
        head,
        signature.signed_positions().reshape(-1),
        averages,
        signature.is_grey,
        nonempty,
        -np.inf if min_score is None else min_score,
        scratch.query,
        scratch.found,
        scratch.weights,
        best,
    )
    count = int(best.count[0])
    return best.image_ids[:count], best.scores[:count], best.segments[:count], best.documents[:count]


@njit(nogil=True, cache=True)
def _search(
    addresses: NDArray[np.uint64],
    head: HeadRows,
    positions: NDArray[np.int16],
    averages: NDArray[np.float64],
    is_grey: bool,
    nonempty: NDArray[np.bool_],
    min_score: float,
    query: Query,
    found: Found,
    weights: NDArray[np.uint8],
    best: Best,
) -> None:
    prepare(query, positions, averages, is_grey, nonempty)
    start_best(best, min_score, query.sizes[2])
    if query.sizes[2] == 0:
        _take_first(addresses, head, best)
    else:
        for segment in range(len(addresses)):
            words = words_at(addresses[segment, _WORDS], addresses[segment, _N_WORDS])
            alive = words_at(addresses[segment, _ALIVE], addresses[segment, _N_ALIVE_WORDS])
            scan_segment(words, alive, segment, query, found, best)
        scan_head(head, query, weights, best)
    sort_best(best)


@njit(nogil=True, cache=True)
def _take_first(addresses: NDArray[np.uint64], head: HeadRows, best: Best) -> None:
    """Offer the live images of the smallest ids, all with score 0: nothing can be shared with any image."""
    for segment in range(len(addresses)):
        words = words_at(addresses[segment, _WORDS], addresses[segment, _N_WORDS])
        alive = words_at(addresses[segment, _ALIVE], addresses[segment, _N_ALIVE_WORDS])
        ids_at = np.int64(words[H_IDS_AT])
        taken = 0
        for document in range(np.int64(words[H_IMAGES])):
            if taken == len(best.scores):
                break
            if alive[document >> 6] >> np.uint64(document & 63) & np.uint64(1):
                offer(best, 0.0, np.int64(words[ids_at + document]), segment, document, 0)
                taken += 1
    for row in range(len(head.image_ids)):
        if head.alive[row]:
            offer(best, 0.0, head.image_ids[row], -1, row, 0)
