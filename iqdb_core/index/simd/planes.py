"""Adds one-bit numbers, 512 images at a time, and compares the sums.

A sum is kept as nine *planes*: plane j holds bit j of the sum of each image. Rows are added to the planes
eight at a time by carry-save adders, so that a row costs two or three instructions. Knows no query. Called by
the ranking.

References
----------
Carry-save population counts: Harley and Seal, in Warren, "Hacker's Delight", 2nd edition, section 5-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.index.simd.vector import load, majority, prefetch, splat, store
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLANES: Final = 9
"""Sums stay below 512 units."""
CHUNK: Final = 8
"""Rows added at once."""
PLANE_WORDS: Final = PLANES * VECTOR_WORDS
"""Words of the nine planes of one vector."""


@kernel(inline=True)
def full_add(a: Any, b: Any, c: Any) -> Any:
    """Return sum and carry of three bits, for each image.

    Written so that compilers see a selection in the carry (where a and b differ it is c, else a), which is
    one instruction on most machines.
    """
    differ = a ^ b
    return differ ^ c, ((a ^ c) & differ) ^ a


@kernel(inline=True)
def half_add(a: Any, b: Any) -> Any:
    """Return sum and carry of two bits, for each image."""
    return a ^ b, a & b


@kernel(inline=True)
def take(words: NDArray[np.uint64], rows: NDArray[np.int64], k: int, column: int, ahead: Any) -> Any:
    """Return a vector of the k-th row, and prefetch a later one of that row unless `ahead` is None."""
    row = item(rows, k)
    if ahead is not None:
        prefetch(words, row + ahead)
    return load(words, row + column)


@kernel(inline=True)
def add_8(
    words: NDArray[np.uint64],
    rows: NDArray[np.int64],
    k: int,
    column: int,
    ahead: Any,
    p: Any,
    q: Any,
    r: Any,
) -> Any:
    """Add eight rows to three planes.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
    rows : (n,) int64 ndarray
        Where rows start in `words`; those of k..k + 7 are added.
    k : int
    column : int
        Where in each row the vector is, in words.
    ahead : int or None
        As `column`, of the vector to prefetch.
    p, q, r : vector
        Three neighbouring planes; the rows count as much as the bits of `p`.

    Returns
    -------
    p, q, r, carry : vector
        The carry counts 8 times as much as the bits of `p`.
    """
    p, a = full_add(p, take(words, rows, k, column, ahead), take(words, rows, k + 1, column, ahead))
    p, b = full_add(p, take(words, rows, k + 2, column, ahead), take(words, rows, k + 3, column, ahead))
    q, c = full_add(q, a, b)
    p, a = full_add(p, take(words, rows, k + 4, column, ahead), take(words, rows, k + 5, column, ahead))
    p, b = full_add(p, take(words, rows, k + 6, column, ahead), take(words, rows, k + 7, column, ahead))
    q, d = full_add(q, a, b)
    r, carry = full_add(r, c, d)
    return p, q, r, carry


@kernel(inline=True)
def add_ones(
    words: NDArray[np.uint64], rows: NDArray[np.int64], k: int, stop: int, column: int, ahead: Any, p: Any
) -> Any:
    """Return nine planes plus rows k..stop - 1, a multiple of eight, each row counting 1."""
    while k + CHUNK < stop:
        p0, p1, p2, a = add_8(words, rows, k, column, ahead, p[0], p[1], p[2])
        p0, p1, p2, b = add_8(words, rows, k + CHUNK, column, ahead, p0, p1, p2)
        p3, carry = full_add(p[3], a, b)
        p4, carry = half_add(p[4], carry)
        p5, carry = half_add(p[5], carry)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p0, p1, p2, p3, p4, p5, p6, p7, p[8] ^ carry)
        k += 2 * CHUNK
    if k < stop:
        p0, p1, p2, carry = add_8(words, rows, k, column, ahead, p[0], p[1], p[2])
        p3, carry = half_add(p[3], carry)
        p4, carry = half_add(p[4], carry)
        p5, carry = half_add(p[5], carry)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p0, p1, p2, p3, p4, p5, p6, p7, p[8] ^ carry)
    return p


@kernel(inline=True)
def add_twos(
    words: NDArray[np.uint64], rows: NDArray[np.int64], k: int, stop: int, column: int, ahead: Any, p: Any
) -> Any:
    """Return nine planes plus rows k..stop - 1, a multiple of eight, each row counting 2."""
    while k + CHUNK < stop:
        p1, p2, p3, a = add_8(words, rows, k, column, ahead, p[1], p[2], p[3])
        p1, p2, p3, b = add_8(words, rows, k + CHUNK, column, ahead, p1, p2, p3)
        p4, carry = full_add(p[4], a, b)
        p5, carry = half_add(p[5], carry)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p[0], p1, p2, p3, p4, p5, p6, p7, p[8] ^ carry)
        k += 2 * CHUNK
    if k < stop:
        p1, p2, p3, carry = add_8(words, rows, k, column, ahead, p[1], p[2], p[3])
        p4, carry = half_add(p[4], carry)
        p5, carry = half_add(p[5], carry)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p[0], p1, p2, p3, p4, p5, p6, p7, p[8] ^ carry)
    return p


@kernel(inline=True)
def add_fours(
    words: NDArray[np.uint64], rows: NDArray[np.int64], k: int, stop: int, column: int, ahead: Any, p: Any
) -> Any:
    """Return nine planes plus rows k..stop - 1, a multiple of eight, each row counting 4."""
    while k + CHUNK < stop:
        p2, p3, p4, a = add_8(words, rows, k, column, ahead, p[2], p[3], p[4])
        p2, p3, p4, b = add_8(words, rows, k + CHUNK, column, ahead, p2, p3, p4)
        p5, carry = full_add(p[5], a, b)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p[0], p[1], p2, p3, p4, p5, p6, p7, p[8] ^ carry)
        k += 2 * CHUNK
    if k < stop:
        p2, p3, p4, carry = add_8(words, rows, k, column, ahead, p[2], p[3], p[4])
        p5, carry = half_add(p[5], carry)
        p6, carry = half_add(p[6], carry)
        p7, carry = half_add(p[7], carry)
        p = (p[0], p[1], p2, p3, p4, p5, p6, p7, p[8] ^ carry)
    return p


@kernel(inline=True)
def store_planes(words: NDArray[np.uint64], first: int, p: Any) -> None:
    """Store nine planes, one vector after the other, from words[first] on."""
    store(words, first, p[0])
    store(words, first + VECTOR_WORDS, p[1])
    store(words, first + 2 * VECTOR_WORDS, p[2])
    store(words, first + 3 * VECTOR_WORDS, p[3])
    store(words, first + 4 * VECTOR_WORDS, p[4])
    store(words, first + 5 * VECTOR_WORDS, p[5])
    store(words, first + 6 * VECTOR_WORDS, p[6])
    store(words, first + 7 * VECTOR_WORDS, p[7])
    store(words, first + 8 * VECTOR_WORDS, p[8])


@kernel(inline=True)
def load_planes(words: NDArray[np.uint64], first: int) -> Any:
    """Return the nine planes that `store_planes` stored."""
    return (
        load(words, first),
        load(words, first + VECTOR_WORDS),
        load(words, first + 2 * VECTOR_WORDS),
        load(words, first + 3 * VECTOR_WORDS),
        load(words, first + 4 * VECTOR_WORDS),
        load(words, first + 5 * VECTOR_WORDS),
        load(words, first + 6 * VECTOR_WORDS),
        load(words, first + 7 * VECTOR_WORDS),
        load(words, first + 8 * VECTOR_WORDS),
    )


@kernel(inline=True)
def at_least(least: int, p: Any) -> Any:
    """Return which images have a sum of at least `least`, 0..511, from their nine planes."""
    carry = splat(~np.uint64(0))
    carry = majority(p[0], splat(bit_missing(least, 0)), carry)
    carry = majority(p[1], splat(bit_missing(least, 1)), carry)
    carry = majority(p[2], splat(bit_missing(least, 2)), carry)
    carry = majority(p[3], splat(bit_missing(least, 3)), carry)
    carry = majority(p[4], splat(bit_missing(least, 4)), carry)
    carry = majority(p[5], splat(bit_missing(least, 5)), carry)
    carry = majority(p[6], splat(bit_missing(least, 6)), carry)
    carry = majority(p[7], splat(bit_missing(least, 7)), carry)
    return majority(p[8], splat(bit_missing(least, 8)), carry)


@kernel(inline=True)
def bit_missing(number: int, bit: int) -> np.uint64:
    """Return all ones where a bit of a number is 0, else zero."""
    return ((np.uint64(number) >> np.uint64(bit)) & np.uint64(1)) - np.uint64(1)
