"""Encodes signatures as records and decodes them, in numpy.

Equivalent to `row_code.coding`. Used in its place until that is compiled, and by tests as its oracle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.row_code.layout import (
    CELL_WORDS,
    NO_RANK,
    PLAIN_BYTES,
    RANKS,
    RECORD_WORDS,
    REST_AT,
    TABLES,
    Records,
)
from iqdb_core.model import CHANNELS, KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures

_WIDEST: Final = int(TABLES.bits_of.max())
_CELL_BITS: Final = CELL_WORDS * 64
_CELLS_AT: Final = CHANNELS * 64
_PLAIN_WORDS: Final = PLAIN_BYTES // 8
_RECORD_BITS: Final = RECORD_WORDS * 64


def encode(signatures: Signatures) -> Records:
    """Return signatures as records."""
    averages, positions = signatures
    n_rows = len(averages)
    ranks = TABLES.rank_of[positions.view(np.uint16)].astype(np.int64)
    ascends = (np.diff(positions.astype(np.int64), axis=2) > 0).all(axis=(1, 2))
    is_coded = ascends & (ranks != NO_RANK).all(axis=(1, 2))
    ranks[~is_coded] = 0
    ranks.sort(axis=2)
    cells = (TABLES.code_of[ranks] & 0xFF).astype(np.int64)
    bits = np.zeros((n_rows, _RECORD_BITS), dtype=np.uint8)
    rows = np.arange(n_rows)[:, None, None]
    channels = np.arange(CHANNELS)[:, None]
    bits[rows, _CELLS_AT + channels * _CELL_BITS + cells + np.arange(KEPT)] = 1
    n_rest, starts = _rests(cells)
    rest = (ranks - TABLES.first_of[cells]).reshape(n_rows, CHANNELS * KEPT)
    for bit in range(_WIDEST):
        row, i = np.nonzero(n_rest > bit)
        bits[row, starts[row, i] + bit] = rest[row, i] >> bit & 1
    sizes = np.minimum((starts[:, -1] + n_rest[:, -1] + 7) // 8, PLAIN_BYTES)
    sizes[~is_coded] = PLAIN_BYTES
    words = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    is_plain = sizes == PLAIN_BYTES
    words[is_plain] = 0
    words[is_plain, CHANNELS:_PLAIN_WORDS] = positions[is_plain].reshape(-1, CHANNELS * KEPT).view(np.uint64)
    words[:, :CHANNELS] = np.ascontiguousarray(averages).view(np.uint64)
    return Records(words, sizes)


def decode(records: Records, positions: NDArray[np.int16]) -> int:
    """Write the positions of records; return the first invalid one, or -1."""
    words, sizes = records
    is_plain = sizes == PLAIN_BYTES
    plain = np.ascontiguousarray(words[is_plain, CHANNELS:_PLAIN_WORDS])
    positions[is_plain] = plain.view(np.int16).reshape(-1, CHANNELS, KEPT)
    is_right = (TABLES.rank_of[positions.view(np.uint16)] != NO_RANK).all(axis=(1, 2)) & is_plain
    is_coded = sizes < PLAIN_BYTES
    positions[is_coded], is_right[is_coded] = _decoded(words[is_coded], sizes[is_coded])
    bad = np.flatnonzero(~is_right)
    return int(bad[0]) if len(bad) else -1


def _rests(cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of bits and the first bit of each rest, (n, 120) each: a row per record."""
    n_rest = TABLES.bits_of[cells].reshape(len(cells), CHANNELS * KEPT)
    return n_rest, REST_AT * 8 + np.cumsum(n_rest, axis=1) - n_rest


def _decoded(
    words: NDArray[np.uint64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the positions of coded records, and for each record whether it is valid."""
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    cell_bits = bits[:, _CELLS_AT : REST_AT * 8].reshape(len(words), CHANNELS, _CELL_BITS)
    is_right = (cell_bits.sum(axis=2) == KEPT).all(axis=1)
    cell_bits[~is_right] = np.arange(_CELL_BITS) < KEPT
    cells = np.nonzero(cell_bits)[2].reshape(len(words), CHANNELS, KEPT) - np.arange(KEPT)
    is_right &= (cells < len(TABLES.bits_of)).all(axis=(1, 2))
    cells[~is_right] = 0
    n_rest, starts = _rests(cells)
    is_right &= starts[:, -1] + n_rest[:, -1] <= sizes * 8
    n_rest[~is_right] = 0
    rest = np.zeros_like(n_rest)
    for bit in range(_WIDEST):
        row, i = np.nonzero(n_rest > bit)
        rest[row, i] |= bits[row, starts[row, i] + bit].astype(np.int64) << bit
    ranks = TABLES.first_of[cells] + rest.reshape(cells.shape)
    is_right &= (ranks < RANKS).all(axis=(1, 2)) & (np.diff(ranks, axis=2) > 0).all(axis=(1, 2))
    ranks[~is_right] = 0
    return np.sort(TABLES.position_of[ranks], axis=2), is_right
