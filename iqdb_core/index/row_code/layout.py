"""The form of a record, and the tables that encoding and decoding read.

Computes only its own tables. Called by both forms of `arithmetic`, and by `disk.signature_rows`.

A record is one signature. A plain record is what `codec.to_bytes` makes, 264 bytes: for signatures whose
positions do not ascend in each channel, and for the few that would not become shorter. A coded record is
shorter. It is a stream of bits, lowest bit of the first byte first:

    3 x 64 bits: the averages, to the bit
    3 x 128 bits, one per channel: bit i + cell of the i-th position in order of rank is 1
    for each channel, each position in order of rank: the rest of its rank, as many bits as its cell says

Signed positions are ranked by how common they are: rank 0 is held by four of ten pictures, most by one of ten
thousand or less. Ranks are cut into cells of 1 to 8,192, each of which holds about half a position of a
picture, so that common positions cost about a bit and rare ones ten or more (the code of Elias and Fano,
with cells of several sizes). Positions of real pictures take 93 bytes instead of 240; their frequencies leave
79 at best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.simd.memory import WORD_BYTES
from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN_BYTES: Final = CHANNELS * (8 + KEPT * 2)
RECORD_WORDS: Final = PLAIN_BYTES // WORD_BYTES + 1
"""Room for a plain record, and for one more word that decoding may read."""
CELL_WORDS: Final = 2
"""Words for the cells of one channel."""
REST_AT: Final = CHANNELS * (1 + CELL_WORDS) * WORD_BYTES
"""Where the rests of ranks begin in a record, bytes."""
RANKS: Final = 2 * (PLANE - 1)
NO_RANK: Final = 32_767
_CLASSES: Final = (
    *(8, 1, 16, 2, 9, 10, 17, 24, 3, 18, 11, 25, 19, 26, 32, 4, 27, 12, 33, 20, 34, 40, 5, 28, 35, 13, 41),
    *(21, 42, 36, 48, 6, 29, 43, 56, 49, 37, 44, 14, 50, 7, 22, 51, 30, 57, 45, 15, 38, 52, 58, 23, 31, 46),
    *(39, 53, 59, 47, 60, 54, 55, 61, 62, 63),
)
"""Classes of positions, 8 * bits of the row + bits of the column, which is the size of the wavelet; the most
common first, by the mean of the three channels of 87,000 crops of varied pictures. Positions of one class are
about equally common in these."""
_CELLS: Final = (
    *((0, 8), (1, 19), (2, 20), (3, 12), (4, 10), (5, 2), (6, 6), (7, 2), (8, 1), (9, 2), (11, 1), (12, 1)),
    (13, 3),
)
"""Bits of the rest, and how many cells have that many, by ascending rank: the choice with the fewest bits in
all for the same crops."""


class Records(NamedTuple):
    """Signatures, each with room for a plain one.

    Parameters
    ----------
    words : (n, RECORD_WORDS) uint64 ndarray, C-contiguous
        Zero behind each record.
    sizes : (n,) int64 ndarray
        Bytes of each record: 264 for a plain one, fewer for a coded one; zeros behind it may count too.
    """

    words: NDArray[np.uint64]
    sizes: NDArray[np.int64]


class Tables(NamedTuple):
    """The tables of encoding and decoding; all read-only.

    Parameters
    ----------
    rank_of : (65,536,) int16 ndarray
        Rank of a signed position, seen as uint16; `NO_RANK` where it is not a position.
    position_of : (32,766,) int16 ndarray
        Signed position of a rank.
    code_of : (32,766,) uint32 ndarray
        For a rank: its cell (lowest 8 bits), the number of bits of its rest (next 8), the rest (upper 16).
    first_of, bits_of : (n_cells,) int64 ndarray
        First rank of a cell, and the number of bits that tell its ranks apart.
    """

    rank_of: NDArray[np.int16]
    position_of: NDArray[np.int16]
    code_of: NDArray[np.uint32]
    first_of: NDArray[np.int64]
    bits_of: NDArray[np.int64]


def _tables() -> Tables:
    place_of_class = np.zeros(64, dtype=np.int64)
    place_of_class[list(_CLASSES)] = np.arange(len(_CLASSES))
    bits = np.array([number.bit_length() for number in range(SIDE)])
    magnitudes = np.arange(1, PLANE)
    places = place_of_class[bits[magnitudes // SIDE] * 8 + bits[magnitudes % SIDE]]
    by_place = magnitudes[np.argsort(places, kind="stable")]
    position_of = np.stack([by_place, -by_place], axis=1).ravel().astype(np.int16)
    rank_of = np.full(1 << 16, NO_RANK, dtype=np.int16)
    rank_of[position_of.view(np.uint16)] = np.arange(RANKS)
    bits_of = np.concatenate([np.full(count, width, dtype=np.int64) for width, count in _CELLS])
    first_of = np.concatenate([[0], np.cumsum(1 << bits_of)[:-1]])
    ranks = np.arange(RANKS)
    cells = np.searchsorted(first_of, ranks, side="right") - 1
    code_of = (cells | bits_of[cells] << 8 | (ranks - first_of[cells]) << 16).astype(np.uint32)
    tables = Tables(rank_of, position_of, code_of, first_of, bits_of)
    for table in tables:
        table.flags.writeable = False
    return tables


TABLES: Final = _tables()
