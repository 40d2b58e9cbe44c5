"""Encodes signatures as records and decodes them, compiled; `layout` describes a record.

Reads no file. Decoding trusts nothing: whatever the words are, it reads and writes within bounds. Called by
`disk.signature_rows` through `arithmetic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import types

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
from iqdb_core.index.simd.memory import read_only
from iqdb_core.index.simd.words import item, trailing_zeros
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, KEPT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures

_WORD_BITS: Final = 64
_POSITIONS: Final = CHANNELS * KEPT
_PER_WORD: Final = 4
"""Positions in one word of a plain record."""


def encode(signatures: Signatures) -> Records:
    """Return signatures as records.

    Parameters
    ----------
    signatures : Signatures
        Any number of them; the positions may be any int16.

    Returns
    -------
    Records
    """
    n_rows = len(signatures.averages)
    records = Records(np.zeros((n_rows, RECORD_WORDS), dtype=np.uint64), np.empty(n_rows, dtype=np.int64))
    records.words[:, :CHANNELS] = np.ascontiguousarray(signatures.averages).view(np.uint64)
    positions = read_only(signatures.positions).reshape(n_rows, _POSITIONS)
    encode_positions(positions, TABLES, _scratch(), records.words.reshape(-1), records.sizes)
    return records


def decode(records: Records, positions: NDArray[np.int16]) -> int:
    """Write the positions of records.

    Parameters
    ----------
    records : Records
        What `encode` made, or any words and sizes.
    positions : (n, 3, 40) int16 ndarray, C-contiguous
        **Overwritten** with the positions in the order in which they were encoded; meaningless if a record is
        invalid.

    Returns
    -------
    int
        The first invalid record, or -1 if all are valid.
    """
    words, sizes = records
    return int(
        decode_positions(
            read_only(words.reshape(-1)), sizes, TABLES, _scratch(), positions.reshape(len(sizes), _POSITIONS)
        )
    )


def _scratch() -> NDArray[np.int16]:
    return np.empty((CHANNELS + 2, KEPT), dtype=np.int16)


@kernel()
def encode_positions(positions, tables, scratch, words, sizes):  # type: ignore[no-untyped-def]
    """Write the positions of records; `encode` writes their averages.

    Parameters
    ----------
    positions : (n, 120) int16 ndarray
    tables : Tables
    scratch : (5, 40) int16 ndarray
        Overwritten.
    words : (n * RECORD_WORDS,) uint64 ndarray
        **Overwritten** behind the averages of each record; must be zero before.
    sizes : (n,) int64 ndarray
        **Overwritten** with the size of each record, bytes.
    """
    for row in range(len(sizes)):
        at = row * RECORD_WORDS + CHANNELS
        sizes[row] = PLAIN_BYTES
        if _are_ranked(positions, row, tables, scratch):
            sizes[row] = min(_put_coded(words, at, tables, scratch), PLAIN_BYTES)
        if sizes[row] == PLAIN_BYTES:
            _put_plain(words, at, positions, row)


@kernel(inline=True)
def _are_ranked(positions, row, tables, scratch):  # type: ignore[no-untyped-def]
    """Put each channel's ranks, ascending, into scratch[:3]; return if positions are valid and ascend."""
    for channel in range(CHANNELS):
        before = np.int64(-PLANE)
        n_wrong = np.int64(0)
        for i in range(KEPT):
            signed = np.int64(positions[np.uint64(row), np.uint64(channel * KEPT + i)])
            rank = item(tables.rank_of, signed & 0xFFFF)
            n_wrong += np.int64(signed <= before or rank == NO_RANK)
            before = signed
            scratch[3, i] = rank
        if n_wrong:
            return False
        _sort(scratch[3], scratch[4], scratch[channel])
    return True


@kernel(inline=True)
def _put_coded(words, at, tables, scratch):  # type: ignore[no-untyped-def]
    """Write a record's cells and rests from a word on, at most `RECORD_WORDS`; return the record's size."""
    rest_at = at + CHANNELS * CELL_WORDS
    held = types.uint64(0)
    n_held = types.uint64(0)
    for channel in range(CHANNELS):
        low = types.uint64(0)
        high = types.uint64(0)
        for i in range(KEPT):
            code = types.uint64(item(tables.code_of, scratch[channel, i]))
            bit = (code & types.uint64(0xFF)) + types.uint64(i)
            mark = types.uint64(1) << (bit & types.uint64(_WORD_BITS - 1))
            if bit < _WORD_BITS:
                low |= mark
            else:
                high |= mark
            rest = code >> types.uint64(16)
            n_rest = (code >> types.uint64(8)) & types.uint64(0xFF)
            held |= rest << n_held
            n_held += n_rest
            if n_held >= _WORD_BITS:
                words[np.uint64(rest_at)] = held
                rest_at += 1
                n_held -= types.uint64(_WORD_BITS)
                held = rest >> (n_rest - n_held)
        words[np.uint64(at + channel * CELL_WORDS)] = low
        words[np.uint64(at + channel * CELL_WORDS + 1)] = high
    words[np.uint64(rest_at)] = held
    return (rest_at - at + CHANNELS) * 8 + (np.int64(n_held) + 7) // 8


@kernel(inline=True)
def _put_plain(words, at, positions, row):  # type: ignore[no-untyped-def]
    """Write positions from a word on."""
    for i in range(0, _POSITIONS, _PER_WORD):
        word = types.uint64(0)
        for j in range(_PER_WORD):
            value = types.uint64(np.uint16(positions[np.uint64(row), np.uint64(i + j)]))
            word |= value << types.uint64(j * 16)
        words[np.uint64(at + i // _PER_WORD)] = word
    words[np.uint64(at + _POSITIONS // _PER_WORD)] = types.uint64(0)


@kernel(inline=True)
def _sort(values, places, ordered):  # type: ignore[no-untyped-def]
    """Write 40 distinct values to `ordered`, ascending: the place of each is the number of smaller ones."""
    for i in range(KEPT):
        places[i] = 0
    for j in range(0, KEPT, 4):  # four at once, so that each count is read and written less often
        first, second, third, fourth = values[j], values[j + 1], values[j + 2], values[j + 3]
        for i in range(KEPT):
            value = values[i]
            places[i] += (
                np.int16(value > first)
                + np.int16(value > second)
                + np.int16(value > third)
                + np.int16(value > fourth)
            )
    for i in range(KEPT):
        ordered[np.uint64(places[i])] = values[i]


@kernel()
def decode_positions(words, sizes, tables, scratch, positions):  # type: ignore[no-untyped-def]
    """Read the positions of records; see `decode`.

    Parameters
    ----------
    words : (n * RECORD_WORDS,) uint64 ndarray
    sizes : (n,) int64 ndarray
    tables : Tables
    scratch : (5, 40) int16 ndarray
        Overwritten.
    positions : (n, 120) int16 ndarray
        **Overwritten.**

    Returns
    -------
    int
        The first invalid record, or -1.
    """
    for row in range(len(sizes)):
        at = row * RECORD_WORDS + CHANNELS
        if sizes[row] > PLAIN_BYTES:
            return row
        if sizes[row] == PLAIN_BYTES:
            is_right = _take_plain(words, at, positions, row)
        else:
            is_right = _take_coded(words, at, sizes[row], tables, scratch, positions, row)
        if not is_right:
            return row
    return -1


@kernel(inline=True)
def _take_plain(words, at, positions, row):  # type: ignore[no-untyped-def]
    """Read positions from a word on; return whether they are valid."""
    for i in range(_POSITIONS):
        word = item(words, at + i // _PER_WORD)
        signed = np.int64(np.int16((word >> types.uint64(i % _PER_WORD * 16)) & types.uint64(0xFFFF)))
        if signed == 0 or signed <= -PLANE or signed >= PLANE:
            return False
        positions[np.uint64(row), np.uint64(i)] = signed
    return True


@kernel(inline=True)
def _take_coded(words, at, size, tables, scratch, positions, row):  # type: ignore[no-untyped-def]
    """Read the positions of a coded record, whose cells begin at a word; return whether it is valid."""
    first_bit = (at - CHANNELS) * _WORD_BITS
    last_bit = first_bit + size * 8
    rest_bit = first_bit + REST_AT * 8
    for channel in range(CHANNELS):
        n = 0
        before = np.int64(-1)
        for half in range(CELL_WORDS):
            cells = item(words, at + channel * CELL_WORDS + half)
            while cells:
                cell = np.int64(trailing_zeros(cells)) + half * _WORD_BITS - n
                cells &= cells - types.uint64(1)
                if n == KEPT or cell >= len(tables.bits_of) or rest_bit > last_bit:
                    return False
                n_rest = item(tables.bits_of, cell)
                mask = (types.uint64(1) << types.uint64(n_rest)) - types.uint64(1)
                rank = item(tables.first_of, cell) + np.int64(_bits_at(words, rest_bit) & mask)
                if rank <= before or rank >= RANKS:
                    return False
                before = rank
                rest_bit += n_rest
                scratch[3, n] = item(tables.position_of, rank)
                n += 1
        if n != KEPT:
            return False
        _sort(scratch[3], scratch[4], positions[np.uint64(row), channel * KEPT : channel * KEPT + KEPT])
    return rest_bit <= last_bit


@kernel(inline=True)
def _bits_at(words, bit):  # type: ignore[no-untyped-def]
    """Return the 64 bits from a bit on; there must be one more word after the one that has that bit."""
    at = bit >> 6
    shift = types.uint64(bit & 63)
    low = item(words, at) >> shift
    return low | ((item(words, at + 1) << types.uint64(1)) << (types.uint64(63) - shift))
