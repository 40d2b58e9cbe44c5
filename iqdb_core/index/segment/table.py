"""The addresses of all segments of a snapshot, so that compiled code reads them in one call.

Never changes; a snapshot with other segments gets a new one. Read by `locate` and by the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.segment.segment import Segment

WORDS, N_WORDS, ALIVE, N_ALIVE_WORDS = range(4)
"""Columns of the addresses of a `SegmentTable`."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Segments and their alive bitmaps, and the addresses of both. Made by `create`.

    Parameters
    ----------
    segments : tuple of Segment
    alive : tuple of (n_words,) uint64 ndarray
        Bit per document; bits beyond the last are ignored.
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
