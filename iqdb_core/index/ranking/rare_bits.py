"""The postings of a query's rare buckets in one segment, written out as bits.

Answers: how many units has each image of rare buckets, and which images have so many that they are worth
scoring first? Rare buckets are in few lists of few slots: setting bits costs less than reading rows. Called
by `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.ranking.lookup import COUNT, LIST, N_RARE, RARE_PLANES, ROW_WORDS, UNITS, Found
from iqdb_core.index.segment.layout import H_VECTORS, VECTOR_WORDS
from iqdb_core.index.simd.compiled import kernel
from iqdb_core.index.simd.vector import has_bits, load, store, zeros
from iqdb_core.index.simd.words import item, popcount

if TYPE_CHECKING:
    from numpy.typing import NDArray

OVERFLOW: Final = RARE_PLANES * ROW_WORDS
"""Where in `Found.rare_bits` the plane of images is that have more units than could be counted."""
DONE: Final = OVERFLOW + ROW_WORDS
"""Where the plane of images is that have been scored already."""
_HOT: Final = (RARE_PLANES - 1) * ROW_WORDS
"""The highest plane: images of 8 units or more, which is at least four rare buckets shared."""
MOST_HOT: Final = 64
"""More hot images in one segment say nothing about likeness, and cost more to score than they save."""


@kernel()
def write_rare(words: NDArray[np.uint64], found: Found) -> None:
    """Fill `found.rare_bits` after `resolve`; `words` is the segment."""
    bits = found.rare_bits
    zero = zeros()
    for plane in range(RARE_PLANES + 2):
        if found.is_dirty[plane]:
            found.is_dirty[plane] = False
            for i in range(plane * ROW_WORDS, (plane + 1) * ROW_WORDS, VECTOR_WORDS):
                store(bits, i, zero)
    slots = words.view(np.uint16)
    for k in range(found.numbers[N_RARE]):
        first = found.rare[LIST, k]
        units = found.rare[UNITS, k]
        for j in range(RARE_PLANES):
            if not units >> j & 1:
                continue
            found.is_dirty[j] = True
            plane = np.uint64(j * ROW_WORDS)
            for i in range(first, first + found.rare[COUNT, k]):
                slot = np.uint64(item(slots, i))
                carry = np.uint64(1) << (slot & np.uint64(63))
                word = plane + (slot >> np.uint64(6))
                before = bits[word]
                bits[word] = before ^ carry
                if before & carry:
                    _carry(found, word, carry)


@kernel()
def _carry(found: Found, word: np.uint64, carry: np.uint64) -> None:
    """Carry a bit into the plane above that of a word, and on; out of the last one into that of overflows."""
    bits = found.rare_bits
    word += np.uint64(ROW_WORDS)
    while word < np.uint64(OVERFLOW):
        found.is_dirty[word // np.uint64(ROW_WORDS)] = True
        before = bits[word]
        bits[word] = before ^ carry
        if not before & carry:
            return
        word += np.uint64(ROW_WORDS)
    found.is_dirty[RARE_PLANES] = True
    bits[word] |= carry


@kernel()
def mark_hot(words: NDArray[np.uint64], found: Found) -> int:
    """Mark images with many units of rare buckets as done, and take them out of the overflow.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    found : Found
        After `write_rare`. **Changed in place**: `rare_bits`.

    Returns
    -------
    int
        How many images were marked; 0, and nothing is changed, if there are more than MOST_HOT.
    """
    bits = found.rare_bits
    n_words = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    if not found.is_dirty[RARE_PLANES - 1]:
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
    found.is_dirty[RARE_PLANES + 1] = True
    return n_hot
