"""Finds the slots of a segment that hold a bucket: reads the table, directory, entries and lists.

The layout is described in `layout`. Never changes a segment. Called by the checks of a segment and by the
ranking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.segment.layout import (
    DIRECTORY_AT,
    DIRECTORY_WORDS,
    GROUPED_BIT,
    H_BOXES_AT,
    H_DOCUMENTS_AT,
    H_ENTRIES,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_IMAGES,
    H_RARE_AT,
    H_ROWS,
    H_ROWS_AT,
    H_STRIDE,
    H_VECTORS,
    PAGE_IMAGES,
    RARE_BIT,
    RARE_COUNT_SHIFT,
)
from iqdb_core.index.segment.table import ALIVE, N_ALIVE_WORDS, N_WORDS, WORDS
from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.index.simd.vector import prefetch
from iqdb_core.index.simd.words import item, popcount, trailing_zeros, words_at
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ENTRY: Final = -1
EXACT: Final = 0
GROUPED: Final = 1
RARE: Final = 2
_PAGE_SHIFT: Final = 8


class SegmentView(NamedTuple):
    """One segment as compiled code sees it.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        See `layout`.
    alive : (n,) uint64 ndarray
        Bit per document.
    number : int
        Its row of the table.
    """

    words: NDArray[np.uint64]
    alive: NDArray[np.uint64]
    number: int


@kernel(inline=True)
def segment_at(addresses: NDArray[np.uint64], number: int) -> SegmentView:
    """Return segment `number` of the table with these addresses; the caller keeps the table alive."""
    words = words_at(addresses[number, WORDS], addresses[number, N_WORDS])
    alive = words_at(addresses[number, ALIVE], addresses[number, N_ALIVE_WORDS])
    return SegmentView(words, alive, number)


@kernel(inline=True)
def directory_at(bucket: int) -> int:
    """Return the place of a bucket in the directory of a segment: two words on one cache line."""
    return DIRECTORY_AT + (bucket >> 6) * 2


@kernel(inline=True)
def entry_number(words: NDArray[np.uint64], bucket: int) -> int:
    """Return the number of a bucket's entry in a segment, or NO_ENTRY if no document holds the bucket."""
    at = directory_at(bucket)
    held = words[at]
    bit = np.uint64(1) << np.uint64(bucket & 63)
    if held & bit == np.uint64(0):
        return np.int64(NO_ENTRY)
    return np.int64(words[at + 1]) + np.int64(popcount(held & (bit - np.uint64(1))))


@kernel(inline=True)
def entry_of(words: NDArray[np.uint64], number: int) -> int:
    """Return an entry by its number."""
    word = words[np.int64(words[H_ENTRIES_AT]) + (number >> 1)]
    return np.int64(word >> np.uint64((number & 1) << 5) & np.uint64(0xFFFFFFFF))


@kernel(inline=True)
def form_of(entry):  # type: ignore[no-untyped-def]
    """Return EXACT, GROUPED or RARE for an entry that is not NO_ENTRY."""
    if entry & RARE_BIT:
        return RARE
    return GROUPED if entry & GROUPED_BIT else EXACT


@kernel(inline=True)
def rare_count(entry):  # type: ignore[no-untyped-def]
    """Return the number of postings of a rare entry."""
    return (entry ^ RARE_BIT) >> RARE_COUNT_SHIFT


@kernel(inline=True)
def rare_offset(entry):  # type: ignore[no-untyped-def]
    """Return where the list of a rare entry starts, in uint16 units from the start of the section."""
    return entry & ((1 << RARE_COUNT_SHIFT) - 1)


@kernel()
def is_in_rare(words, first, count, slot):  # type: ignore[no-untyped-def]
    """Return whether an ascending list of uint16 holds a slot.

    Parameters
    ----------
    words : (n,) uint64 ndarray
        A segment.
    first : int64
        Where the list starts, in uint16 units from the start of the segment.
    count, slot : int64
    """
    low = first
    high = first + count
    while low < high:
        middle = (low + high) >> 1
        found = np.int64((words[middle >> 2] >> np.uint64((middle & 3) << 4)) & np.uint64(0xFFFF))
        if found == slot:
            return True
        if found < slot:
            low = middle + 1
        else:
            high = middle
    return False


@kernel(inline=True)
def _pages_of(words: NDArray[np.uint64]) -> int:
    return (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) >> _PAGE_SHIFT


@kernel(inline=True)
def fetch_grouped(words: NDArray[np.uint64], first: int, slot: int) -> None:
    """Prefetch what `is_in_grouped` will probably read."""
    count = np.int64(item(words, first) >> np.uint64(32))
    n_pages = _pages_of(words)
    page_words = (count + n_pages + 63) >> 6
    for i in range(0, page_words, VECTOR_WORDS):
        prefetch(words, first + 1 + i)
    page = slot >> _PAGE_SHIFT
    prefetch(words, first + 1 + page_words + (count * page // n_pages >> 3))


@kernel()
def is_in_grouped(words: NDArray[np.uint64], first: int, slot: int) -> bool:
    """Return whether a grouped list, whose word 0 is at `first`, holds a slot."""
    one = np.uint64(1)
    count = np.int64(item(words, first) >> np.uint64(32))
    pages_at = first + 1
    lows_at = pages_at + ((count + _pages_of(words) + 63) >> 6)
    # The page's postings come after as many zeros as there are pages before it.
    page = slot >> _PAGE_SHIFT
    zeros_left = page
    word = pages_at
    n_zeros = 64 - np.int64(popcount(item(words, word)))
    while zeros_left > n_zeros:
        zeros_left -= n_zeros
        word += 1
        n_zeros = 64 - np.int64(popcount(item(words, word)))
    position = 0
    if zeros_left > 0:
        zeros = ~item(words, word)
        for _ in range(zeros_left - 1):
            zeros &= zeros - one
        position = (word - pages_at) * 64 + np.int64(trailing_zeros(zeros)) + 1
    rank = position - page
    wanted = np.uint64(slot & (PAGE_IMAGES - 1))
    while item(words, pages_at + (position >> 6)) >> np.uint64(position & 63) & one:
        low = item(words, lows_at + (rank >> 3)) >> np.uint64((rank & 7) << 3) & np.uint64(0xFF)
        if low == wanted:
            return True
        position += 1
        rank += 1
    return False


@kernel()
def are_postings_valid(address, n_words):  # type: ignore[no-untyped-def]
    """Return whether all entries, lists, postings and document numbers of a segment point inside it.

    Parameters
    ----------
    address : int
        Of the segment's words, whose header has been checked.
    n_words : int

    Returns
    -------
    bool
    """
    words = words_at(np.uint64(address), n_words)
    n_images = np.int64(words[H_IMAGES])
    n_rows = np.int64(words[H_ROWS])
    grouped_at = np.int64(words[H_GROUPED_AT])
    rare_at = np.int64(words[H_RARE_AT])
    rare_end = np.int64(words[H_BOXES_AT]) * 4
    halves = words.view(np.uint32)
    first_entry = np.int64(words[H_ENTRIES_AT]) * 2
    n_entries = 0
    for at in range(DIRECTORY_AT, DIRECTORY_AT + DIRECTORY_WORDS, 2):
        if words[at + 1] != np.uint64(n_entries):
            return False
        n_entries += np.int64(popcount(words[at]))
    if n_entries != np.int64(words[H_ENTRIES]):
        return False
    for entry_no in range(n_entries):
        entry = np.int64(halves[first_entry + entry_no])
        form = form_of(entry)
        if form == EXACT:
            is_valid = entry < n_rows
        elif form == GROUPED:
            at = grouped_at + (entry ^ GROUPED_BIT)
            is_valid = at < rare_at and _is_grouped_valid(words, at, rare_at, n_images, n_rows)
        else:
            first = rare_at * 4 + rare_offset(entry)
            is_valid = first + rare_count(entry) <= rare_end
        if not is_valid:
            return False
    quarters = words.view(np.uint16)
    first_document = np.int64(words[H_DOCUMENTS_AT]) * 4
    for slot in range(n_images):
        if np.int64(quarters[first_document + slot]) >= n_images:
            return False
    for i in range(rare_at * 4, rare_end):
        # The last word is filled up with 0, which is a slot of every segment.
        if np.int64(quarters[i]) >= n_images:
            return False
    return _are_rows_valid(words, n_images, n_rows)


@kernel()
def _is_grouped_valid(words, at, end, n_images, n_rows):  # type: ignore[no-untyped-def]
    """Return whether a grouped list ends by `end`, has a valid row, and as many slots as its count says."""
    one = np.uint64(1)
    row = np.int64(words[at] & np.uint64(0xFFFFFFFF))
    count = np.int64(words[at] >> np.uint64(32))
    n_pages = (n_images + PAGE_IMAGES - 1) >> _PAGE_SHIFT
    page_words = (count + n_pages + 63) >> 6
    if row >= n_rows or count > n_images or at + 1 + page_words + ((count + 7) >> 3) > end:
        return False
    pages_at = at + 1
    lows_at = pages_at + page_words
    n_ones = 0
    for i in range(pages_at, lows_at):
        n_ones += np.int64(popcount(words[i]))
    # With exactly `count` ones, all before the zero of the last page, no posting is in a page beyond the
    # last, and every walk through the marks ends inside them.
    last_zero = count + n_pages - 1
    if n_ones != count or words[lows_at - 1] >> np.uint64(last_zero & 63) != np.uint64(0):
        return False
    # Only the last page may have fewer than 256 images, so that a low byte may be too large.
    n_last = n_images - ((n_pages - 1) << _PAGE_SHIFT)
    lows = words.view(np.uint8)
    low = lows_at * 8 + count
    position = last_zero - 1
    while position >= 0:
        if words[pages_at + (position >> 6)] >> np.uint64(position & 63) & one == np.uint64(0):
            break
        low -= 1
        position -= 1
        if np.int64(lows[low]) >= n_last:
            return False
    return True


@kernel()
def _are_rows_valid(words, n_images, n_rows):  # type: ignore[no-untyped-def]
    """Return whether no row has a bit beyond that of the last image."""
    rows_at = np.int64(words[H_ROWS_AT])
    stride = np.int64(words[H_STRIDE])
    first = n_images >> 6
    stop = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    if first == stop:
        return True
    for row in range(n_rows):
        at = rows_at + row * stride
        behind = words[at + first] >> np.uint64(n_images & 63)
        for i in range(at + first + 1, at + stop):
            behind |= words[i]
        if behind != np.uint64(0):
            return False
    return True
