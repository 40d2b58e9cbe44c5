"""Alive bitmaps: which documents of a segment are not deleted.

A bitmap is never changed in place once a snapshot holds it: `without` makes a new one. Bit d % 64 of word d
// 64 is document d; bits behind the last document are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD_BITS = 64


def all_alive(n_images: int, n_words: int) -> NDArray[np.uint64]:
    """Return the bitmap of `n_images` live documents, `n_words` long."""
    bits = np.zeros(n_words * WORD_BITS, dtype=np.uint8)
    bits[:n_images] = 1
    return np.packbits(bits, bitorder="little").view(np.uint64)


def without(alive: NDArray[np.uint64], doc_ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a copy in which `doc_ids` are dead."""
    copy = alive.copy()
    bits = np.left_shift(np.uint64(1), (doc_ids % WORD_BITS).astype(np.uint64))
    np.bitwise_and.at(copy, doc_ids // WORD_BITS, ~bits)
    return copy


def are_alive(alive: NDArray[np.uint64], doc_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each document whether it is alive."""
    words = alive[doc_ids // WORD_BITS]
    is_alive: NDArray[np.bool_] = (words >> (doc_ids % WORD_BITS).astype(np.uint64)) & np.uint64(1) != 0
    return is_alive


def live_documents(alive: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the live documents, ascending."""
    return np.flatnonzero(np.unpackbits(alive.view(np.uint8), bitorder="little"))


def count(alive: NDArray[np.uint64], n_images: int) -> int:
    """Return how many documents are alive; -1 if a bit beyond the first `n_images` is set."""
    bits = np.unpackbits(alive.view(np.uint8), bitorder="little")
    return -1 if bits[n_images:].any() else int(np.count_nonzero(bits))
