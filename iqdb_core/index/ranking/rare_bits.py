"""The postings of a query's rare buckets in one segment, written out as bits.

Counts the units of rare buckets for each image, and finds images with so many that they are scored first.
Rare buckets have short lists: setting bits costs less than reading rows. Called by `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.ranking.lookup import COUNT, LIST, N_RARE, UNITS, Lookup
from iqdb_core.index.segment.layout import H_VECTORS, SEGMENT_IMAGES
from iqdb_core.index.simd.memory import VECTOR_WORDS, aligned_zeros
from iqdb_core.index.simd.vector import has_bits, load, store, zeros
from iqdb_core.index.simd.words import item, popcount
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

RARE_PLANES: Final = 4
"""Bits of the counters of units: 0 to 15; the images with more are marked in one plane more."""
ROW_WORDS: Final = SEGMENT_IMAGES // 64
OVERFLOW: Final = RARE_PLANES * ROW_WORDS
"""Where the plane of images with 16 or more units starts in `RareBits.bits`."""
DONE: Final = OVERFLOW + ROW_WORDS
"""Where the plane of images that have been scored already starts."""
_HOT: Final = (RARE_PLANES - 1) * ROW_WORDS
"""The highest plane: images of 8 to 15 units, most of which share several rare buckets."""
MOST_HOT: Final = 64
"""More hot images in one segment say nothing about likeness, and cost more to score than they save."""


class RareBits(NamedTuple):
    """The postings of a query's rare buckets in one segment as bits; scratch of one thread.

    Parameters
    ----------
    bits : (6 * 1024,) uint64 ndarray
        Six planes with one bit per slot: the units of its rare buckets modulo 16, in four planes; whether it
        has 16 or more (cleared by `mark_hot`); whether it has been scored already.
    is_dirty : (6,) bool ndarray
        Which planes of `bits` may have bits set.
    """

    bits: NDArray[np.uint64]
    is_dirty: NDArray[np.bool_]


def create_rare_bits() -> RareBits:
    """Return memory for one thread."""
    return RareBits(aligned_zeros((RARE_PLANES + 2) * ROW_WORDS), np.zeros(RARE_PLANES + 2, dtype=np.bool_))


@kernel()
def write_rare(words: NDArray[np.uint64], lookup: Lookup, rare: RareBits) -> None:
    """Fill `rare` after `resolve`; `words` is the segment."""
    bits = rare.bits
    zero = zeros()
    for plane in range(RARE_PLANES + 2):
        if rare.is_dirty[plane]:
            rare.is_dirty[plane] = False
            for i in range(plane * ROW_WORDS, (plane + 1) * ROW_WORDS, VECTOR_WORDS):
                store(bits, i, zero)
    slots = words.view(np.uint16)
    for k in range(lookup.numbers[N_RARE]):
        first = lookup.rare[LIST, k]
        units = lookup.rare[UNITS, k]
        for j in range(RARE_PLANES):
            if not units >> j & 1:
                continue
            rare.is_dirty[j] = True
            plane = np.uint64(j * ROW_WORDS)
            for i in range(first, first + lookup.rare[COUNT, k]):
                slot = np.uint64(item(slots, i))
                carry = np.uint64(1) << (slot & np.uint64(63))
                word = plane + (slot >> np.uint64(6))
                before = bits[word]
                bits[word] = before ^ carry
                if before & carry:
                    _carry(rare, word, carry)


@kernel()
def _carry(rare: RareBits, word: np.uint64, carry: np.uint64) -> None:
    """Carry a bit into the next plane, and on while that has it too; after the last, mark an overflow."""
    bits = rare.bits
    word += np.uint64(ROW_WORDS)
    while word < np.uint64(OVERFLOW):
        rare.is_dirty[word // np.uint64(ROW_WORDS)] = True
        before = bits[word]
        bits[word] = before ^ carry
        if not before & carry:
            return
        word += np.uint64(ROW_WORDS)
    rare.is_dirty[RARE_PLANES] = True
    bits[word] |= carry


@kernel()
def mark_hot(words: NDArray[np.uint64], rare: RareBits) -> int:
    """Mark hot images, which have 8 or more units of rare buckets, as done; clear all overflows.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    rare : RareBits
        After `write_rare`. **Changed in place.**

    Returns
    -------
    int
        How many images were marked; 0, and nothing is changed, if there are more than MOST_HOT.
    """
    bits = rare.bits
    n_words = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    if not rare.is_dirty[RARE_PLANES - 1]:
        return 0
    n_hot = 0
    for i in range(0, n_words, VECTOR_WORDS):
        if has_bits(load(bits, _HOT + i) | load(bits, OVERFLOW + i)):
            for word in range(i, i + VECTOR_WORDS):
                n_hot += np.int64(popcount(item(bits, _HOT + word) | item(bits, OVERFLOW + word)))
    if n_hot > MOST_HOT:
        return 0
    for i in range(0, n_words, VECTOR_WORDS):
        store(bits, DONE + i, load(bits, _HOT + i) | load(bits, OVERFLOW + i))
        store(bits, OVERFLOW + i, zeros())
    rare.is_dirty[RARE_PLANES + 1] = True
    return n_hot
