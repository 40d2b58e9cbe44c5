"""Adds up the bits of the buckets that images of a segment share with a signature, posting by posting.

Finds the slots that share enough of its distinctive buckets, and adds what these share of its common ones.
Called by `sharers`, which looks the buckets up; `tally_head` uses its memory too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from iqdb_core.index.ranking.arithmetic import MOST_BITS
from iqdb_core.index.ranking.best import Best, offer
from iqdb_core.index.ranking.head_rows import HEAD_BUCKETS
from iqdb_core.index.ranking.query import MOST_BUCKETS
from iqdb_core.index.segment.layout import (
    GROUPED_BIT,
    H_DOCUMENTS_AT,
    H_GROUPED_AT,
    H_IDS_AT,
    H_IMAGES,
    H_RARE_AT,
    H_ROWS_AT,
    H_STRIDE,
    H_VECTORS,
    PAGE_IMAGES,
    SEGMENT_IMAGES,
)
from iqdb_core.index.segment.postings import (
    EXACT,
    GROUPED,
    NO_ENTRY,
    SegmentView,
    entry_number,
    entry_of,
    form_of,
    is_in_grouped,
    is_in_rare,
    rare_count,
    rare_offset,
)
from iqdb_core.index.simd.memory import VECTOR_WORDS, aligned_zeros
from iqdb_core.index.simd.vector import store, zeros
from iqdb_core.index.simd.words import item, trailing_zeros
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

AS_SCORE: Final = 100
"""The divisor for `offer`: a score is net * 100 / divisor, so that bits are their own score."""


class Found(NamedTuple):
    """The best matches of m signatures, one row per signature; see `Best`.

    Parameters
    ----------
    scores : (m, limit) float64 ndarray
    image_ids : (m, limit) int64 ndarray
    segments, documents : (m, limit) int32 ndarray
    counts : (m,) int64 ndarray
    bars : (m, 3) float64 ndarray
        `least`, `min_score` and `common_least`.
    """

    scores: NDArray[np.float64]
    image_ids: NDArray[np.int64]
    segments: NDArray[np.int32]
    documents: NDArray[np.int32]
    counts: NDArray[np.int64]
    bars: NDArray[np.float64]


class Tally(NamedTuple):
    """Memory of one thread, for up to m signatures.

    Parameters
    ----------
    sums : (8192,) uint64 ndarray
        A byte per slot of a segment: the bits it shares. All zero between signatures.
    hits : (65,537,) int64 ndarray
        Slots that reached the bar.
    common : (120,) int64 ndarray
        Entries of the common buckets of a signature in a segment.
    of_row : (2, m) int64 ndarray
        The bits of distinctive buckets, and of common ones, that one row of the head shares with each
        signature.
    places : (114,689,) int16 ndarray
        Per bucket, 1 + the last of its places among the buckets of all signatures, or 0 without any; all zero
        between searches. The size is HEAD_BUCKETS.
    """

    sums: NDArray[np.uint64]
    hits: NDArray[np.int64]
    common: NDArray[np.int64]
    of_row: NDArray[np.int64]
    places: NDArray[np.int16]


def create_tally(n_signatures: int) -> Tally:
    """Return memory for one thread."""
    return Tally(
        aligned_zeros(SEGMENT_IMAGES // 8),
        np.zeros(SEGMENT_IMAGES + 1, dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros((2, n_signatures), dtype=np.int64),
        np.zeros(HEAD_BUCKETS, dtype=np.int16),
    )


@kernel(inline=True)
def best_of(found: Found, k: int) -> Best:
    """Return the best matches of signature k."""
    return Best(
        found.scores[k],
        found.image_ids[k],
        found.segments[k],
        found.documents[k],
        found.counts[k : k + 1],
        found.bars[k, 0:1],
        found.bars[k, 1:2],
        found.bars[k, 2:3],
    )


@kernel()
def tally_segment(
    view: SegmentView,
    entries: NDArray[np.int64],
    buckets: NDArray[np.int64],
    bits: NDArray[np.int64],
    count: int,
    end: int,
    bar: int,
    tally: Tally,
    best: Best,
) -> None:
    """Offer the live images of a segment that reach the bar of one signature.

    Parameters
    ----------
    view : SegmentView
    entries : (120,) int64 ndarray
        Of the signature's first `count` buckets.
    buckets, bits : (120,) int64 ndarray
    count, end, bar : int
        As in `DistinctiveBuckets`.
    tally : Tally
        **Changed in place.**
    best : Best
        **Changed in place.**
    """
    words = view.words
    n_hits = np.int64(0)
    total = np.int64(0)
    # The commonest first: as long as the sum of all bits is below the bar, no slot can have reached it.
    for i in range(count - 1, -1, -1):
        if entries[i] != NO_ENTRY:
            total += bits[i]
            if total < bar:
                _add_bucket(words, entries[i], bits[i], None, tally, n_hits)
            else:
                n_hits = _add_bucket(words, entries[i], bits[i], bar, tally, n_hits)
    if n_hits > 0:
        _offer_hits(view, buckets, bits, count, end, n_hits, tally, best)
    for word in range(0, np.int64(words[H_VECTORS]) * VECTOR_WORDS * 8, VECTOR_WORDS):
        store(tally.sums, word, zeros())


@kernel()
def _add_bucket(words: NDArray[np.uint64], entry: int, bits: int, bar: Any, tally: Tally, n_hits: int) -> int:
    """Add the bits of a bucket to all slots that hold it.

    Return how many slots have reached the bar. If `bar` is None, no sum can reach it yet, and this is not
    checked.
    """
    one = np.uint64(1)
    form = form_of(entry)
    if form == GROUPED:
        at = np.int64(words[H_GROUPED_AT]) + (entry ^ GROUPED_BIT)
        count = np.int64(item(words, at) >> np.uint64(32))
        n_pages = (np.int64(words[H_IMAGES]) + PAGE_IMAGES - 1) // PAGE_IMAGES
        n_words = (count + n_pages + 63) >> 6
        lows = words.view(np.uint8)
        low_at = (at + 1 + n_words) * 8
        page = np.int64(0)
        for word in range(n_words):
            left = item(words, at + 1 + word)
            while left != np.uint64(0):
                # Every 0 before a posting's 1 ends a page.
                slot = (page + np.int64(trailing_zeros(left))) * PAGE_IMAGES + np.int64(item(lows, low_at))
                n_hits = _add(tally, slot, bits, bar, n_hits)
                left &= left - one
                page -= 1
                low_at += 1
            page += 64
    elif form == EXACT:
        at = np.int64(words[H_ROWS_AT]) + entry * np.int64(words[H_STRIDE])
        for word in range(np.int64(words[H_VECTORS]) * VECTOR_WORDS):
            left = item(words, at + word)
            while left != np.uint64(0):
                n_hits = _add(tally, word * 64 + np.int64(trailing_zeros(left)), bits, bar, n_hits)
                left &= left - one
    else:
        slots = words.view(np.uint16)
        first = np.int64(words[H_RARE_AT]) * 4 + rare_offset(entry)
        for i in range(first, first + rare_count(entry)):
            n_hits = _add(tally, np.int64(item(slots, i)), bits, bar, n_hits)
    return n_hits


@kernel(inline=True)
def _add(tally: Tally, slot: int, bits: int, bar: Any, n_hits: int) -> int:
    """Add bits to a slot, and the slot to the hits when it reaches the bar; return the number of hits."""
    sums = tally.sums.view(np.uint8)
    if bar is None:
        sums[np.uint64(slot)] += np.uint8(bits)
        return n_hits
    before = np.int64(item(sums, slot))
    after = min(before + bits, MOST_BITS)
    sums[np.uint64(slot)] = np.uint8(after)
    tally.hits[np.uint64(n_hits)] = slot
    return n_hits + ((before < bar) & (after >= bar))


@kernel()
def _offer_hits(
    view: SegmentView,
    buckets: NDArray[np.int64],
    bits: NDArray[np.int64],
    first: int,
    stop: int,
    n_hits: int,
    tally: Tally,
    best: Best,
) -> None:
    """Offer the live hits, with the bits that they share of buckets first..stop - 1 added."""
    words = view.words
    documents = words.view(np.uint16)
    documents_at = np.int64(words[H_DOCUMENTS_AT]) * 4
    ids_at = np.int64(words[H_IDS_AT])
    sums = tally.sums.view(np.uint8)
    most = np.int64(0)
    for i in range(first, stop):
        number = entry_number(words, buckets[i])
        tally.common[i - first] = entry_of(words, number) if number != NO_ENTRY else np.int64(NO_ENTRY)
        most += bits[i]
    for k in range(n_hits):
        slot = tally.hits[k]
        value = np.int64(item(sums, slot))
        left = most
        for i in range(first, stop):
            if np.float64(value + left) < best.least[0]:
                break
            left -= bits[i]
            if _holds(words, tally.common[i - first], slot):
                value += bits[i]
        if np.float64(value + left) < best.least[0]:
            continue
        document = np.int64(item(documents, documents_at + slot))
        if item(view.alive, document >> 6) >> np.uint64(document & 63) & np.uint64(1):
            image_id = np.int64(item(words, ids_at + document))
            offer(best, np.float64(value), image_id, view.number, document, AS_SCORE)


@kernel(inline=True)
def _holds(words: NDArray[np.uint64], entry: int, slot: int) -> bool:
    """Return whether a slot holds the bucket of an entry."""
    if entry == NO_ENTRY:
        return False
    form = form_of(entry)
    if form == EXACT:
        at = np.int64(words[H_ROWS_AT]) + entry * np.int64(words[H_STRIDE]) + (slot >> 6)
        return item(words, at) >> np.uint64(slot & 63) & np.uint64(1) != np.uint64(0)
    if form == GROUPED:
        return is_in_grouped(words, np.int64(words[H_GROUPED_AT]) + (entry ^ GROUPED_BIT), slot)
    return is_in_rare(words, np.int64(words[H_RARE_AT]) * 4 + rare_offset(entry), rare_count(entry), slot)
