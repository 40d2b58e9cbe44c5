"""Builds a segment in numpy: the same words that the kernels make, bit for bit.

The layout is described in `segment.layout`. Used in place of `segment.build` until that is compiled, and by
tests as its oracle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.plain.buckets import held_buckets
from iqdb_core.index.rows import stored_averages
from iqdb_core.index.segment import layout
from iqdb_core.index.segment.segment import Built, Segment, framed, require_images
from iqdb_core.index.segment.weights import AVERAGE_WEIGHTS
from iqdb_core.model import BUCKETS, CHANNELS, is_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Rows

_EXACT_SHARE: Final = 32
_GROUP_SHARE: Final = 8
_RARE_SHARE: Final = 256
"""As in `placement`, written down again so that the two forms check each other."""


def build_segment(images: Rows) -> Built:
    """Build a segment, as `segment.build.build_segment` does."""
    require_images(images)
    n = len(images)
    are_grey = is_grey(images.averages[:, 1], images.averages[:, 2])
    stored = stored_averages(images.averages)
    order, n_grey = order_by_colour(stored, are_grey)
    slots, buckets = held_buckets(images.averages[order], images.positions[order])
    counts = np.bincount(buckets, minlength=BUCKETS).astype(np.int32)
    n_vectors, n_pages = -(-n // layout.VECTOR_IMAGES), -(-n // layout.PAGE_IMAGES)
    rows, lists, n_rows, n_grouped_words, n_rare = _plan(counts, n_vectors, n_pages)
    words = framed(images.image_ids, n_rows, int(np.count_nonzero(counts)), n_grouped_words, -(-n_rare // 4))
    _write_entries(words, counts, rows, lists)
    _write_postings(words, counts, rows, lists, slots, buckets)
    _write_colours(words, stored[order], order, n_grey)
    words.flags.writeable = False
    return Built(Segment(words), counts)


def order_by_colour(
    averages: NDArray[np.float32], are_grey: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Return the image of each slot, and how many of the first slots hold grey images; see `colour_order`."""
    order = np.concatenate([np.flatnonzero(are_grey), np.flatnonzero(~are_grey)])
    n_grey = int(np.count_nonzero(are_grey))
    parts = [(0, n_grey), (n_grey, len(order))]
    while parts:
        low, high = parts.pop()
        half = layout.VECTOR_IMAGES
        middle = ((low + high) // 2 + half // 2) // half * half
        if middle <= low:
            middle += half
        if middle >= high:
            continue
        keys = averages[order[low:high], _widest(averages[order[low:high]])].tolist()
        images = order[low:high].tolist()
        _select(keys, images, middle - low)
        order[low:high] = images
        parts += [(low, middle), (middle, high)]
    return order, n_grey


def _widest(averages: NDArray[np.float32]) -> int:
    """Return the channel whose averages vary most, weighted by what a difference costs in score."""
    costs = []
    for channel in range(CHANNELS):
        values = averages[:, channel].astype(np.float64)
        # cumsum adds one after the other, as the kernel does; sum would round otherwise.
        mean = np.cumsum(values)[-1] / len(values)
        variance = np.cumsum(values * values)[-1] / len(values) - mean * mean
        costs.append(variance * AVERAGE_WEIGHTS[channel] * AVERAGE_WEIGHTS[channel])
    return costs.index(max(costs))


def _select(keys: list[float], images: list[int], wanted: int) -> None:
    """Reorder so that no key before `wanted` is above any from it on (Hoare's FIND)."""
    low, high = 0, len(keys) - 1
    while low < high:
        pivot = sorted((keys[low], keys[(low + high) // 2], keys[high]))[1]
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while pivot < keys[j]:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                images[i], images[j] = images[j], images[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return


def _plan(
    counts: NDArray[np.int32], n_vectors: int, n_pages: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int, int]:
    """Return row and list of every bucket (-1: none), and the numbers of rows, list words and rare uint16."""
    n_slots = n_vectors * layout.VECTOR_IMAGES
    rows = np.full(BUCKETS, -1, dtype=np.int64)
    lists = np.full(BUCKETS, -1, dtype=np.int64)
    n_rows, n_grouped_words, n_rare = 1, 0, 0
    group_row, group_count = -1, 0
    for bucket in np.flatnonzero(counts).tolist():
        count = int(counts[bucket])
        if count * _EXACT_SHARE >= n_slots:
            rows[bucket] = n_rows
            n_rows += 1
        elif count * _RARE_SHARE >= n_slots:
            if group_row < 0 or (group_count + count) * _GROUP_SHARE > n_slots:
                group_row, group_count = n_rows, 0
                n_rows += 1
            group_count += count
            rows[bucket] = group_row
            lists[bucket] = n_grouped_words
            n_grouped_words += 1 + -(-(count + n_pages) // 64) + -(-count // 8)
        else:
            lists[bucket] = n_rare
            n_rare += count
    return rows, lists, n_rows, n_grouped_words, n_rare


def _write_entries(
    words: NDArray[np.uint64], counts: NDArray[np.int32], rows: NDArray[np.int64], lists: NDArray[np.int64]
) -> None:
    """Write the directory, the entries and the first word of each grouped list."""
    held = counts > 0
    directory = words[layout.DIRECTORY_AT : layout.DIRECTORY_AT + layout.DIRECTORY_WORDS].reshape(-1, 2)
    directory[:, 0] = np.packbits(held, bitorder="little").view(np.uint64)
    directory[1:, 1] = np.cumsum(held.reshape(-1, 64).sum(axis=1))[:-1]
    buckets = np.flatnonzero(held)
    row, at, count = rows[buckets], lists[buckets], counts[buckets].astype(np.int64)
    rare = layout.RARE_BIT | (count << layout.RARE_COUNT_SHIFT) | at
    entries = np.where(row < 0, rare, np.where(at < 0, row, layout.GROUPED_BIT | at))
    first = int(words[layout.H_ENTRIES_AT]) * 2
    words.view(np.uint32)[first : first + len(entries)] = entries
    is_grouped = (row >= 0) & (at >= 0)
    words[int(words[layout.H_GROUPED_AT]) + at[is_grouped]] = row[is_grouped] | (count[is_grouped] << 32)


def _write_postings(
    words: NDArray[np.uint64],
    counts: NDArray[np.int32],
    rows: NDArray[np.int64],
    lists: NDArray[np.int64],
    slots: NDArray[np.int64],
    buckets: NDArray[np.int64],
) -> None:
    """Write every posting into its row and its list."""
    order = np.argsort(buckets, kind="stable")
    slots, buckets = slots[order], buckets[order]
    ranks = np.arange(len(slots)) - (np.cumsum(counts) - counts)[buckets]
    row, at = rows[buckets], lists[buckets]
    rows_at, stride = int(words[layout.H_ROWS_AT]), int(words[layout.H_STRIDE])
    _set_bits(words, (rows_at + row * stride) * 64 + slots, row >= 0)
    grouped = (row >= 0) & (at >= 0)
    marks_at = int(words[layout.H_GROUPED_AT]) + at + 1
    _set_bits(words, marks_at * 64 + ranks + slots // layout.PAGE_IMAGES, grouped)
    n_pages = -(-int(words[layout.H_IMAGES]) // layout.PAGE_IMAGES)
    lows_at = (marks_at + -(-(counts[buckets].astype(np.int64) + n_pages) // 64)) * 8 + ranks
    words.view(np.uint8)[lows_at[grouped]] = slots[grouped] % layout.PAGE_IMAGES
    rare = (row < 0) & (at >= 0)
    words.view(np.uint16)[int(words[layout.H_RARE_AT]) * 4 + at[rare] + ranks[rare]] = slots[rare]


def _set_bits(words: NDArray[np.uint64], bits: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
    bits = bits[chosen]
    np.bitwise_or.at(words, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))


def _write_colours(
    words: NDArray[np.uint64], averages: NDArray[np.float32], order: NDArray[np.int64], n_grey: int
) -> None:
    """Write averages and documents in slot order, and each vector's range of averages and colourless bit."""
    n, n_vectors = len(order), int(words[layout.H_VECTORS])
    first = int(words[layout.H_AVERAGES_AT]) * 2
    words.view(np.float32)[first : first + n * CHANNELS] = averages.reshape(-1)
    first = int(words[layout.H_DOCUMENTS_AT]) * 4
    words.view(np.uint16)[first : first + n] = order
    starts = np.arange(0, n, layout.VECTOR_IMAGES)
    boxes = np.stack([np.minimum.reduceat(averages, starts), np.maximum.reduceat(averages, starts)], axis=1)
    first = int(words[layout.H_BOXES_AT]) * 2
    # From (vector, least or greatest, channel) to channel by channel, least before greatest.
    words.view(np.float32)[first : first + 6 * n_vectors] = boxes.transpose(2, 1, 0).reshape(-1)
    are_colourless = np.minimum(starts + layout.VECTOR_IMAGES, n) <= n_grey
    bits = np.zeros(-(-n_vectors // 64) * 64, dtype=np.bool_)
    bits[:n_vectors] = are_colourless
    at = int(words[layout.H_COLOURLESS_AT])
    words[at : at + len(bits) // 64] = np.packbits(bits, bitorder="little").view(np.uint64)
