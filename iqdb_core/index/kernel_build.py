"""Counting and placing postings: the compiled half of `build`.

Answers: how many images hold each bucket, which form do its postings take, and where does each posting go?
Works on arrays
that `build` prepared and checked. Called by `build` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_vector import prefetch
from iqdb_core.index.kernel_words import item
from iqdb_core.index.layout import (
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
from iqdb_core.model import BUCKETS, CHANNELS, KEPT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_SHARE: Final = 32
"""A bucket held by at least 1/32 of the slots has a row of its own: it is read often enough to be worth a
bit per image."""
GROUP_SHARE: Final = 8
"""Grouped buckets share a row until their counts reach 1/8 of the slots: more makes bounds loose, less costs
memory."""
RARE_SHARE: Final = 256
"""A bucket held by less than 1/256 of the slots is rare: setting its bits when asked is cheaper than reading
a row."""


_AHEAD: Final = 8
"""Images between asking for memory and reading it."""
_LINE_POSITIONS: Final = 32
"""Positions on one cache line."""


@kernel()
def count_buckets(
    positions: NDArray[np.int16], is_grey: NDArray[np.bool_], counts: NDArray[np.int32]
) -> bool:
    """Count the images that hold each bucket.

    Parameters
    ----------
    positions : (n, 3, 40) int16 ndarray
    is_grey : (n,) bool ndarray
        Of a grey image only the Y channel is indexed.
    counts : (98,304,) int32 ndarray
        Zeros. **Changed in place.**

    Returns
    -------
    bool
        False if a position is not 1..16383 in magnitude; the counts are then worthless.
    """
    for image in range(positions.shape[0]):
        for channel in range(1 if is_grey[image] else CHANNELS):
            row = positions[image, channel]
            is_plain = is_ascending(row)
            for i in range(KEPT):
                signed = np.int64(row[i])
                if signed == 0 or signed <= -PLANE or signed >= PLANE:
                    return False
                if is_plain or not is_repeat(row, i):
                    counts[bucket_of(channel, signed)] += 1
    return True


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
        its
        section, else -1.

    Returns
    -------
    int, int, int, int
        Rows, held buckets, words of grouped lists, uint16 units of rare lists.
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
def place_postings(
    words: NDArray[np.uint64],
    positions: NDArray[np.int16],
    is_grey: NDArray[np.bool_],
    order: NDArray[np.int32],
    counts: NDArray[np.int32],
    rows: NDArray[np.int32],
    lists: NDArray[np.int32],
    places: NDArray[np.int64],
    written: NDArray[np.int32],
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
    counts, rows, lists : (98,304,) int32 ndarray
        As `plan_forms` left them.
    places : (98,304,) int64 ndarray
        Scratch: where the row of an exact bucket starts, else that of the empty row.
    written : (98,304,) int32 ndarray
        Zeros. **Changed in place**: how many postings of the bucket's list are written.
    listed : (41,) int64 ndarray
        Scratch.
    """
    stride = np.int64(words[H_STRIDE])
    rows_at = np.int64(words[H_ROWS_AT])
    for bucket in range(BUCKETS):
        is_exact = rows[bucket] >= 0 and lists[bucket] < 0
        places[bucket] = rows_at + rows[bucket] * stride if is_exact else rows_at
    flat = positions.reshape(-1)
    n = len(order)
    for slot in range(n):
        image = np.int64(order[slot])
        later = np.int64(order[min(slot + _AHEAD, n - 1)]) * (CHANNELS * KEPT)
        for k in range(0, CHANNELS * KEPT, _LINE_POSITIONS):
            prefetch(flat, later + k)
        bit = np.uint64(1) << np.uint64(slot & 63)
        word = slot >> 6
        for channel in range(1 if is_grey[image] else CHANNELS):
            row = positions[image, channel]
            is_plain = is_ascending(row)
            n_listed = 0
            for i in range(KEPT):
                bucket = bucket_of(channel, np.int64(row[i]))
                place = item(places, bucket)
                # Which form a bucket has is hard to predict: buckets without an exact row set nothing in the
                # empty one.
                is_listed = place == rows_at
                words[np.uint64(place + word)] |= np.uint64(0) if is_listed else bit
                listed[n_listed] = i
                n_listed += is_listed
            for k in range(n_listed):
                i = listed[k]
                if is_plain or not is_repeat(row, i):
                    bucket = bucket_of(channel, np.int64(row[i]))
                    _place_in_list(words, bucket, slot, counts, rows, lists, written)


@kernel()
def _place_in_list(
    words: NDArray[np.uint64],
    bucket: int,
    slot: int,
    counts: NDArray[np.int32],
    rows: NDArray[np.int32],
    lists: NDArray[np.int32],
    written: NDArray[np.int32],
) -> None:
    """Write a posting of a grouped or rare bucket."""
    rank = np.int64(item(written, bucket))
    written[np.uint64(bucket)] = rank + 1
    row = np.int64(item(rows, bucket))
    list_at = np.int64(item(lists, bucket))
    if row < 0:
        words.view(np.uint16)[np.uint64(np.int64(words[H_RARE_AT]) * 4 + list_at + rank)] = np.uint16(slot)
        return
    row_at = np.int64(words[H_ROWS_AT]) + row * np.int64(words[H_STRIDE])
    words[np.uint64(row_at + (slot >> 6))] |= np.uint64(1) << np.uint64(slot & 63)
    pages_at = np.int64(words[H_GROUPED_AT]) + list_at + 1
    n_pages = (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) // PAGE_IMAGES
    mark = rank + slot // PAGE_IMAGES
    words[np.uint64(pages_at + (mark >> 6))] |= np.uint64(1) << np.uint64(mark & 63)
    lows_at = pages_at + (np.int64(item(counts, bucket)) + n_pages + 63) // 64
    low = np.uint64(slot & (PAGE_IMAGES - 1))
    words[np.uint64(lows_at + (rank >> 3))] |= low << np.uint64((rank & 7) << 3)


@kernel()
def place_colours(
    words: NDArray[np.uint64], averages: NDArray[np.float32], order: NDArray[np.int32], n_grey: int
) -> None:
    """Write averages and documents in slot order, and what each vector's averages have in common."""
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


@kernel(inline=True)
def bucket_of(channel: int, signed: int) -> int:
    """Return the bucket of a signed position."""
    if signed < 0:
        return (channel * 2 + 1) * PLANE - signed
    return channel * 2 * PLANE + signed


@kernel(inline=True)
def is_ascending(row: NDArray[np.int16]) -> bool:
    """Return whether 40 positions ascend strictly, so that none occurs twice."""
    n_falls = 0
    for i in range(1, KEPT):
        n_falls += row[i] <= row[i - 1]
    return n_falls == 0


@kernel()
def is_repeat(row: NDArray[np.int16], i: int) -> bool:
    """Return whether position i of a row occurs before it."""
    for earlier in range(i):
        if row[earlier] == row[i]:
            return True
    return False
