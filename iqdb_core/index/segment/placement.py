"""Plans and places postings: the compiled half of `build`.

Decides the form of each bucket's postings, and where each posting goes. Works on arrays that `build` prepared
and checked. Called by `build` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.segment.buckets import bucket_of, is_ascending, is_repeat
from iqdb_core.index.segment.layout import (
    DIRECTORY_AT,
    GROUPED_BIT,
    H_AVERAGES_AT,
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_DOCUMENTS_AT,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_IMAGES,
    H_RARE_AT,
    H_ROWS_AT,
    H_STRIDE,
    H_VECTORS,
    PAGE_IMAGES,
    RARE_BIT,
    RARE_COUNT_SHIFT,
    VECTOR_IMAGES,
)
from iqdb_core.index.simd.vector import prefetch
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel
from iqdb_core.model import BUCKETS, CHANNELS, KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_SHARE: Final = 32
"""A bucket held by at least 1/32 of the slots has a row of its own: it is read so often that a bit per image
pays off."""
GROUP_SHARE: Final = 8
"""Grouped buckets share a row as long as their counts add up to at most 1/8 of the slots: more makes bounds
loose, less costs memory."""
RARE_SHARE: Final = 256
"""A bucket held by less than 1/256 of the slots is rare: setting its bits during a query is cheaper than
reading a row."""


_AHEAD: Final = 8
"""Images between prefetching positions and reading them."""
_LINE_POSITIONS: Final = 32
"""Positions on one cache line."""
_GROUPED_PLACE: Final = 1 << 30
_RARE_PLACE: Final = 1 << 31
"""The two upper bits of a place tell the form of the bucket; neither is set for an exact one."""
_ROW_AT, _MARKS_AT, _LOWS_AT, _WRITTEN = range(4)
"""Columns of `grouped`, see `plan_places`."""


@kernel()
def plan_forms(
    counts: NDArray[np.int32],
    n_vectors: int,
    n_pages: int,
    rows: NDArray[np.int32],
    lists: NDArray[np.int32],
) -> tuple[int, int, int, int]:
    """Decide the form of every bucket.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray
    n_vectors, n_pages : int
        Of the segment.
    rows : (98,304,) int32 ndarray
        **Filled**: the row of an exact or grouped bucket, else -1.
    lists : (98,304,) int32 ndarray
        **Filled**: where the list of a grouped bucket (in words) or of a rare one (in uint16 units) starts in
        its section, else -1.

    Returns
    -------
    int, int, int, int
        The numbers of rows, held buckets, words of grouped lists, and uint16 units of rare lists.
    """
    n_slots = n_vectors * VECTOR_IMAGES
    n_rows = 1  # row 0 stays empty
    n_entries = 0
    n_grouped_words = 0
    n_rare = 0
    group_row = -1
    group_count = 0
    for bucket in range(BUCKETS):
        count = np.int64(counts[bucket])
        rows[bucket] = -1
        lists[bucket] = -1
        if count == 0:
            continue
        n_entries += 1
        if count * EXACT_SHARE >= n_slots:
            rows[bucket] = n_rows
            n_rows += 1
        elif count * RARE_SHARE >= n_slots:
            if group_row < 0 or (group_count + count) * GROUP_SHARE > n_slots:
                group_row = n_rows
                n_rows += 1
                group_count = 0
            group_count += count
            rows[bucket] = group_row
            lists[bucket] = n_grouped_words
            n_grouped_words += 1 + (count + n_pages + 63) // 64 + (count + 7) // 8
        else:
            lists[bucket] = n_rare
            n_rare += count
    return n_rows, n_entries, n_grouped_words, n_rare


@kernel()
def place_entries(
    words: NDArray[np.uint64], counts: NDArray[np.int32], rows: NDArray[np.int32], lists: NDArray[np.int32]
) -> None:
    """Write the directory, the entries and the first word of each grouped list.

    Arrays as `plan_forms` left them.
    """
    halves = words.view(np.uint32)
    at = np.int64(words[H_ENTRIES_AT]) * 2
    grouped_at = np.int64(words[H_GROUPED_AT])
    n_entries = 0
    for bucket in range(BUCKETS):
        directory = DIRECTORY_AT + (bucket >> 6) * 2
        if bucket & 63 == 0:
            words[directory + 1] = np.uint64(n_entries)
        count = np.int64(counts[bucket])
        if count == 0:
            continue
        words[directory] |= np.uint64(1) << np.uint64(bucket & 63)
        if rows[bucket] < 0:
            entry = RARE_BIT | (count << RARE_COUNT_SHIFT) | np.int64(lists[bucket])
        elif lists[bucket] < 0:
            entry = np.int64(rows[bucket])
        else:
            entry = GROUPED_BIT | np.int64(lists[bucket])
            words[grouped_at + lists[bucket]] = np.uint64(np.int64(rows[bucket]) | (count << 32))
        halves[at + n_entries] = np.uint32(entry)
        n_entries += 1


@kernel()
def plan_places(
    words: NDArray[np.uint64],
    counts: NDArray[np.int32],
    rows: NDArray[np.int32],
    lists: NDArray[np.int32],
    places: NDArray[np.uint32],
    grouped: NDArray[np.int64],
) -> None:
    """Collect, per bucket, where its postings have to be written.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The header is there.
    counts, rows, lists : (98,304,) int32 ndarray
        As `plan_forms` left them.
    places : (98,304,) uint32 ndarray
        **Filled**: the form in the upper two bits. Below them, for an exact bucket: where its row starts, in
        words from row 0; for a grouped one: its row of `grouped`; for a rare one: where its next posting
        goes, in uint16 units from the start of the section.
    grouped : (n_grouped, 4) int64 ndarray
        **Filled**: where the row, the page marks (both in words) and the low bytes (in bytes) of each grouped
        bucket start, and 0, the number of postings written so far.
    """
    stride = np.int64(words[H_STRIDE])
    rows_at = np.int64(words[H_ROWS_AT])
    grouped_at = np.int64(words[H_GROUPED_AT])
    n_pages = (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) // PAGE_IMAGES
    n_grouped = 0
    for bucket in range(BUCKETS):
        if rows[bucket] < 0:
            place = _RARE_PLACE | np.int64(max(lists[bucket], 0))
        elif lists[bucket] < 0:
            place = rows[bucket] * stride
        else:
            marks_at = grouped_at + lists[bucket] + 1
            grouped[n_grouped, _ROW_AT] = rows_at + rows[bucket] * stride
            grouped[n_grouped, _MARKS_AT] = marks_at
            grouped[n_grouped, _LOWS_AT] = (marks_at + (np.int64(counts[bucket]) + n_pages + 63) // 64) * 8
            grouped[n_grouped, _WRITTEN] = 0
            place = _GROUPED_PLACE | n_grouped
            n_grouped += 1
        places[bucket] = np.uint32(place)


@kernel()
def place_postings(
    words: NDArray[np.uint64],
    positions: NDArray[np.int16],
    is_grey: NDArray[np.bool_],
    order: NDArray[np.int32],
    places: NDArray[np.uint32],
    grouped: NDArray[np.int64],
    listed: NDArray[np.int64],
) -> None:
    """Write every posting into its row and its list.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        Header and entries are there. **Changed in place.**
    positions : (n, 3, 40) int16 ndarray
    is_grey : (n,) bool ndarray
    order : (n,) int32 ndarray
        The image of each slot.
    places : (98,304,) uint32 ndarray
    grouped : (n_grouped, 4) int64 ndarray
        As `plan_places` left them. **Changed in place.**
    listed : (82,) int64 ndarray
        Scratch.
    """
    rows_at = np.int64(words[H_ROWS_AT])
    flat = positions.reshape(-1)
    n = len(order)
    for slot in range(n):
        image = np.int64(order[slot])
        later = np.int64(order[min(slot + _AHEAD, n - 1)]) * (CHANNELS * KEPT)
        for k in range(0, CHANNELS * KEPT, _LINE_POSITIONS):
            prefetch(flat, later + k)
        bit = np.uint64(1) << np.uint64(slot & 63)
        word = rows_at + (slot >> 6)
        for channel in range(1 if is_grey[image] else CHANNELS):
            row = positions[image, channel]
            # The form of a bucket is hard to predict, so this loop has no branches: a position that is not
            # exact writes nothing into the empty row, and is noted in one of the two halves of `listed`.
            n_grouped = 0
            n_rare = KEPT + 1
            for i in range(KEPT):
                place = np.int64(item(places, bucket_of(channel, np.int64(row[i]))))
                is_exact = place < _GROUPED_PLACE
                exact = np.uint64(place if is_exact else 0)
                words[exact + np.uint64(word)] |= bit if is_exact else np.uint64(0)
                listed[np.uint64(n_grouped)] = i
                n_grouped += (place & _GROUPED_PLACE) != 0
                listed[np.uint64(n_rare)] = i
                n_rare += (place & _RARE_PLACE) != 0
            if n_grouped + n_rare == KEPT + 1:
                continue
            is_plain = is_ascending(row)
            for k in range(n_grouped):
                i = listed[k]
                if is_plain or not is_repeat(row, i):
                    number = item(places, bucket_of(channel, np.int64(row[i]))) ^ np.uint32(_GROUPED_PLACE)
                    _place_grouped(words, slot, grouped[number])
            for k in range(KEPT + 1, n_rare):
                i = listed[k]
                if is_plain or not is_repeat(row, i):
                    _place_rare(words, slot, places, bucket_of(channel, np.int64(row[i])))


@kernel(inline=True)
def _place_grouped(words: NDArray[np.uint64], slot: int, group: NDArray[np.int64]) -> None:
    """Write a posting of a grouped bucket: its bit in the shared row, its page mark and its low byte."""
    rank = group[_WRITTEN]
    group[_WRITTEN] = rank + 1
    words[np.uint64(group[_ROW_AT] + (slot >> 6))] |= np.uint64(1) << np.uint64(slot & 63)
    mark = rank + slot // PAGE_IMAGES
    words[np.uint64(group[_MARKS_AT] + (mark >> 6))] |= np.uint64(1) << np.uint64(mark & 63)
    words.view(np.uint8)[np.uint64(group[_LOWS_AT] + rank)] = np.uint8(slot & (PAGE_IMAGES - 1))


@kernel(inline=True)
def _place_rare(words: NDArray[np.uint64], slot: int, places: NDArray[np.uint32], bucket: int) -> None:
    """Write a posting of a rare bucket, and move the place of the next one on."""
    place = item(places, bucket)
    places[np.uint64(bucket)] = place + np.uint32(1)
    at = np.int64(words[H_RARE_AT]) * 4 + np.int64(place ^ np.uint32(_RARE_PLACE))
    words.view(np.uint16)[np.uint64(at)] = np.uint16(slot)


@kernel()
def place_colours(
    words: NDArray[np.uint64], averages: NDArray[np.float32], order: NDArray[np.int32], n_grey: int
) -> None:
    """Write averages and documents in slot order, and each vector's range of averages and colourless bit."""
    n = np.int64(words[H_IMAGES])
    n_vectors = np.int64(words[H_VECTORS])
    floats = words.view(np.float32)
    quarters = words.view(np.uint16)
    averages_at = np.int64(words[H_AVERAGES_AT]) * 2
    documents_at = np.int64(words[H_DOCUMENTS_AT]) * 4
    boxes_at = np.int64(words[H_BOXES_AT]) * 2
    for slot in range(n):
        quarters[documents_at + slot] = np.uint16(order[slot])
        for channel in range(CHANNELS):
            floats[averages_at + slot * CHANNELS + channel] = averages[order[slot], channel]
    for vector in range(n_vectors):
        first = vector * VECTOR_IMAGES
        stop = min(first + VECTOR_IMAGES, n)
        for channel in range(CHANNELS):
            least = averages[order[first], channel]
            greatest = least
            for slot in range(first + 1, stop):
                least = min(least, averages[order[slot], channel])
                greatest = max(greatest, averages[order[slot], channel])
            floats[boxes_at + (channel * 2) * n_vectors + vector] = least
            floats[boxes_at + (channel * 2 + 1) * n_vectors + vector] = greatest
        if stop <= n_grey:
            colourless_at = np.int64(words[H_COLOURLESS_AT]) + (vector >> 6)
            words[colourless_at] |= np.uint64(1) << np.uint64(vector & 63)
