"""Reading, checking and searching segments by id, in numpy.

Equivalent to `segment.locate`, `segment.postings` and `simd.words`. Used in their place until they are
compiled, and by tests as their oracle.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.segment.table import SegmentTable

_LANES: Final = 8
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_LEFT, _RIGHT, _HALF = np.uint64(29), np.uint64(35), np.uint64(32)
_WORD: Final = 1 << 64


def locate(table: SegmentTable, image_ids: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return segments and documents of the live ones among strictly ascending ids."""
    segments, documents = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for number, (segment, alive) in enumerate(zip(table.segments, table.alive, strict=True)):
        found = segment.find(image_ids)
        found = found[found >= 0]
        found = found[bitmap.are_alive(alive, found.astype(np.int64))]
        segments.append(np.full(len(found), number, dtype=np.int32))
        documents.append(found)
    return np.concatenate(segments), np.concatenate(documents)


def entry_of(words: NDArray[np.uint64], bucket: int) -> int | None:
    """Return the entry of a bucket, or None if no document holds it."""
    at = layout.DIRECTORY_AT + (bucket >> 6) * 2
    held, bit = int(words[at]), 1 << (bucket & 63)
    if not held & bit:
        return None
    number = int(words[at + 1]) + (held & (bit - 1)).bit_count()
    return int(words.view(np.uint32)[int(words[layout.H_ENTRIES_AT]) * 2 + number])


def slots_of(words: NDArray[np.uint64], bucket: int) -> NDArray[np.int64]:
    """Return the slots whose documents hold a bucket, ascending."""
    entry = entry_of(words, bucket)
    if entry is None:
        return np.empty(0, dtype=np.int64)
    if entry & layout.RARE_BIT:
        first = int(words[layout.H_RARE_AT]) * 4 + (entry & ((1 << layout.RARE_COUNT_SHIFT) - 1))
        count = (entry ^ layout.RARE_BIT) >> layout.RARE_COUNT_SHIFT
        return words.view(np.uint16)[first : first + count].astype(np.int64)
    if entry & layout.GROUPED_BIT:
        return _slots_of_group(words, int(words[layout.H_GROUPED_AT]) + (entry ^ layout.GROUPED_BIT))
    at = int(words[layout.H_ROWS_AT]) + entry * int(words[layout.H_STRIDE])
    row = words[at : at + int(words[layout.H_VECTORS]) * layout.VECTOR_IMAGES // 64]
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))


def _slots_of_group(words: NDArray[np.uint64], at: int) -> NDArray[np.int64]:
    count = int(words[at] >> _HALF)
    n_pages = -(-int(words[layout.H_IMAGES]) // layout.PAGE_IMAGES)
    lows_at = at + 1 + -(-(count + n_pages) // 64)
    marks = np.flatnonzero(np.unpackbits(words[at + 1 : lows_at].view(np.uint8), bitorder="little"))
    pages = marks - np.arange(len(marks))  # zeros before a mark = pages before its own
    return pages * layout.PAGE_IMAGES + words.view(np.uint8)[lows_at * 8 : lows_at * 8 + count]


def checksum_words(words: NDArray[np.uint64]) -> int:
    """Return the checksum that `simd.words.checksum_words` describes."""
    lanes = np.arange(1, _LANES + 1, dtype=np.uint64)
    whole = len(words) // _LANES * _LANES
    for eight in words[:whole].reshape(-1, _LANES):
        lanes = (lanes ^ eight) * _MULTIPLIER
        lanes = (lanes << _LEFT) | (lanes >> _RIGHT)
    a, *rest = lanes.tolist()
    for word in words[whole:].tolist():
        a = _mixed(a, word)
    total = len(words)
    for lane in (a, *rest):
        total = _mixed(_mixed(total, lane), lane >> 32)
    return total


def _mixed(lane: int, word: int) -> int:
    product = (lane ^ word) * int(_MULTIPLIER) % _WORD
    return (product << 29 | product >> 35) % _WORD


def are_postings_valid(address: int, n_words: int) -> bool:
    """Return whether nothing in the segment at an address points outside it."""
    words: NDArray[np.uint64] = np.ctypeslib.as_array((ctypes.c_uint64 * n_words).from_address(address))
    header = [int(word) for word in words[: layout.HEADER_WORDS]]
    n_images, n_rows = header[layout.H_IMAGES], header[layout.H_ROWS]
    grouped_at, rare_at = header[layout.H_GROUPED_AT], header[layout.H_RARE_AT]
    rare_end = header[layout.H_BOXES_AT] * 4
    directory = words[layout.DIRECTORY_AT : layout.DIRECTORY_AT + layout.DIRECTORY_WORDS].reshape(-1, 2)
    held = np.unpackbits(np.ascontiguousarray(directory[:, 0]).view(np.uint8), bitorder="little")
    before = np.cumsum(held.reshape(-1, 64).sum(axis=1, dtype=np.uint64))
    if directory[0, 1] or (directory[1:, 1] != before[:-1]).any() or before[-1] != header[layout.H_ENTRIES]:
        return False
    first = header[layout.H_ENTRIES_AT] * 2
    entries = words.view(np.uint32)[first : first + int(before[-1])].astype(np.int64)
    is_rare = entries & layout.RARE_BIT != 0
    is_grouped = ~is_rare & (entries & layout.GROUPED_BIT != 0)
    rare = entries[is_rare] ^ layout.RARE_BIT
    ends = rare_at * 4 + (rare & ((1 << layout.RARE_COUNT_SHIFT) - 1)) + (rare >> layout.RARE_COUNT_SHIFT)
    if (entries[~is_rare & ~is_grouped] >= n_rows).any() or (ends > rare_end).any():
        return False
    for entry in entries[is_grouped].tolist():
        at = grouped_at + (entry ^ layout.GROUPED_BIT)
        if at >= rare_at or not _is_group_valid(words, at, rare_at, n_images, n_rows):
            return False
    quarters = words.view(np.uint16)
    first = header[layout.H_DOCUMENTS_AT] * 4
    rows_at, stride = header[layout.H_ROWS_AT], header[layout.H_STRIDE]
    rows = words[rows_at : rows_at + n_rows * stride].reshape(n_rows, stride)
    behind = rows[:, n_images >> 6 : header[layout.H_VECTORS] * layout.VECTOR_IMAGES // 64].copy()
    behind[:, :1] >>= np.uint64(n_images & 63)
    return not (
        (quarters[first : first + n_images] >= n_images).any()
        or (quarters[rare_at * 4 : rare_end] >= n_images).any()
        or behind.any()
    )


def _is_group_valid(words: NDArray[np.uint64], at: int, end: int, n_images: int, n_rows: int) -> bool:
    row, count = int(words[at]) & 0xFFFFFFFF, int(words[at]) >> 32
    page_words = -(-(count + -(-n_images // layout.PAGE_IMAGES)) // 64)
    if row >= n_rows or count > n_images or at + 1 + page_words + -(-count // 8) > end:
        return False
    marks = np.unpackbits(words[at + 1 : at + 1 + page_words].view(np.uint8))
    if np.count_nonzero(marks) != count:
        return False
    slots = _slots_of_group(words, at)
    return count == 0 or bool(slots.max() < n_images)
