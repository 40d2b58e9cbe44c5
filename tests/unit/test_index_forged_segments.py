"""Segments whose postings were forged: refused, or read without a step out of bounds.

A test of compiled code runs this once more with all memory between guards.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.errors import IndexStateError
from iqdb_core.index.head import Head
from iqdb_core.index.plain import segment as plain_segment
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.ranking import search, sharers
from iqdb_core.index.ranking.arithmetic import DistinctiveBuckets
from iqdb_core.index.rows import Rows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import build, layout, locate, postings
from iqdb_core.index.segment.segment import Segment
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.index.simd import memory
from iqdb_core.model import BUCKETS
from tests.fixtures.index_rows import realistic_rows, signature_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

THREADS = QueryThreads(1, 0)
SIZES = (9_000, 9_216)
"""With a last page that is not full, and with nothing behind the last image."""


@functools.cache
def made(n: int) -> tuple[Rows, Words]:
    rows = Rows(np.arange(n, dtype=np.int64), *realistic_rows(np.random.default_rng(n), n))
    return rows, build.build_segment(rows).segment.words


def copy_of(words: Words) -> Words:
    copied = memory.allocate(len(words))
    copied[:] = words
    return copied


@functools.cache
def buckets_of(n: int) -> dict[str, list[int]]:
    """Return the buckets that are held, by the form of their postings."""
    words = made(n)[1]
    found: dict[str, list[int]] = {"exact": [], "grouped": [], "rare": []}
    for bucket in range(BUCKETS):
        entry = plain_segment.entry_of(words, bucket)
        if entry is not None:
            is_rare, is_grouped = entry & layout.RARE_BIT, entry & layout.GROUPED_BIT
            found["rare" if is_rare else "grouped" if is_grouped else "exact"].append(bucket)
    assert all(found.values())
    return found


def marks_of(words: Words, bucket: int) -> tuple[slice, int]:
    """Return where the marks of a grouped bucket are, and how many postings it has."""
    entry = plain_segment.entry_of(words, bucket)
    assert entry is not None
    at = int(words[layout.H_GROUPED_AT]) + (entry ^ layout.GROUPED_BIT)
    count, n_pages = int(words[at]) >> 32, -(-int(words[layout.H_IMAGES]) // layout.PAGE_IMAGES)
    return slice(at + 1, at + 1 + -(-(count + n_pages) // 64)), count


def move_mark(words: Words, bucket: int, old: int, new: int) -> None:
    """Move a mark of a grouped bucket, each of two places counted as Python counts."""
    place, _ = marks_of(words, bucket)
    bits = np.unpackbits(words[place].view(np.uint8), bitorder="little")
    bits[np.flatnonzero(bits)[old]] = 0
    bits[np.flatnonzero(bits == 0)[new]] = 1
    words[place] = np.packbits(bits, bitorder="little").view(np.uint64)


def set_low(words: Words, bucket: int, posting: int, low: int) -> None:
    place, count = marks_of(words, bucket)
    words.view(np.uint8)[place.stop * 8 + posting % count] = low


def are_accepted(words: Words) -> bool:
    """Return whether words pass as a segment, in either form alike."""
    arguments = (words.ctypes.data, len(words))
    is_valid = bool(postings.are_postings_valid(*arguments))
    assert is_valid == plain_segment.are_postings_valid(*arguments)
    if not is_valid:
        with pytest.raises(IndexStateError, match="postings that point outside"):
            Segment.from_words(words)
    return is_valid


@pytest.mark.parametrize("n", SIZES)
def test_a_forged_segment_with_a_page_behind_the_last_is_refused(n: int) -> None:
    words = made(n)[1]
    place, count = marks_of(words, buckets_of(n)["grouped"][0])
    n_free = (place.stop - place.start) * 64 - count - -(-n // layout.PAGE_IMAGES)
    for new in range(-1, -n_free - 2, -1):
        forged = copy_of(words)
        move_mark(forged, buckets_of(n)["grouped"][0], -1, new)
        assert not are_accepted(forged), new


def test_a_forged_segment_with_slots_behind_its_last_image_is_refused() -> None:
    words = made(9_000)[1]
    last_page, n_last = divmod(9_000, layout.PAGE_IMAGES)
    for bucket in buckets_of(9_000)["grouped"]:
        slots = plain_segment.slots_of(words, bucket)
        first = int(np.searchsorted(slots, last_page * layout.PAGE_IMAGES))
        if len(slots) - first >= 2:
            break
    for posting in (first, len(slots) - 1):
        for low, is_right in ((n_last - 1, True), (n_last, False), (255, False)):
            forged = copy_of(words)
            set_low(forged, bucket, posting, low)
            assert are_accepted(forged) is is_right
    forged = copy_of(words)
    set_low(forged, bucket, first - 1, 255)
    assert are_accepted(forged), "the page before the last is full"


def test_a_forged_segment_with_bits_behind_its_last_image_is_refused() -> None:
    words = made(9_000)[1]
    rows_at, stride, n_rows = (int(words[at]) for at in (layout.H_ROWS_AT, layout.H_STRIDE, layout.H_ROWS))
    end = int(words[layout.H_VECTORS]) * layout.VECTOR_IMAGES
    for row in (0, 1, n_rows - 1):
        for slot, is_right in ((8_999, True), (9_000, False), (9_024, False), (end - 1, False)):
            forged = copy_of(words)
            forged[rows_at + row * stride + slot // 64] |= np.uint64(1 << slot % 64)
            assert are_accepted(forged) is is_right, (row, slot)


def forge(words: Words, n: int, rng: np.random.Generator) -> int:
    """Change a segment where that may go unnoticed; returns a bucket that it concerns."""
    form = ("exact", "grouped", "rare")[rng.integers(0, 3)]
    bucket = int(rng.choice(buckets_of(n)[form]))
    kind = rng.integers(0, 5)
    if kind == 0:
        first = int(words[layout.H_GROUPED_AT])
        at = int(rng.integers(first, len(words)))
        words[at] ^= np.uint64(1) << np.uint64(rng.integers(0, 64))
    elif form == "exact":
        entry = plain_segment.entry_of(words, bucket) or 0
        at = int(words[layout.H_ROWS_AT]) + entry * int(words[layout.H_STRIDE])
        words[at + int(rng.integers(0, int(words[layout.H_STRIDE])))] ^= np.uint64(1 << rng.integers(0, 64))
    elif form == "rare":
        quarters = words.view(np.uint16)
        first, stop = (int(words[at]) * 4 for at in (layout.H_RARE_AT, layout.H_BOXES_AT))
        quarters[rng.integers(first, stop)] = rng.integers(0, n + 5)
    elif kind == 1:
        set_low(words, bucket, int(rng.integers(0, 10_000)), int(rng.integers(0, 256)))
    else:
        move_mark(words, bucket, -1 if kind == 2 else 0, int(rng.integers(-9, 0)))
    return bucket


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES))
def test_forged_segments_that_pass_are_read_within_bounds(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    rows, words = made(n)
    forged = copy_of(words)
    concerned = [forge(forged, n, rng) for _ in range(rng.integers(1, 4))]
    if not are_accepted(forged):
        return
    segment = Segment.from_words(forged)
    for bucket in concerned:
        assert (plain_segment.slots_of(forged, bucket) < n).all()
    table = SegmentTable.create([segment], [bitmap.all_alive(n, segment.n_words)])
    nothing = Head.create(1).rows_to_scan()
    query = signature_at(rows.averages, rows.positions, int(rng.integers(0, n)))
    nonempty = np.ones(BUCKETS, dtype=np.bool_)
    found = search.search(table, nothing, query, limit=20, nonempty=nonempty, threads=THREADS)
    buckets = np.zeros((1, 120), np.int64)
    buckets[0] = rng.choice(np.concatenate(list(buckets_of(n).values())), 120)
    buckets[0, : len(concerned)] = concerned
    distinctive = DistinctiveBuckets(buckets, np.full((1, 120), 5), np.array([100]), np.array([120]), 5)
    [shared] = sharers.find_sharers(table, nothing, distinctive, limit=n, threads=THREADS)
    for columns in (found, shared):
        assert ((columns[3] >= 0) & (columns[3] < n)).all()
    segments, documents = locate.locate(table, np.arange(0, 2 * n, 3))
    assert (documents < n).all()
    assert (segments == 0).all()
