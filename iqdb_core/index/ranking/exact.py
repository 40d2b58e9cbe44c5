"""Scores, one by one, the images that bounds could not rule out.

Of many candidates in one vector, those with the highest bounds are scored first, because each good match
raises the bar for the rest. Called by `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.ranking.best import Best, bar, offer, score_of
from iqdb_core.index.ranking.lookup import COUNT, LIST, N_EXACT, N_GROUPED, N_RARE, ROW, WEIGHT, Lookup
from iqdb_core.index.ranking.query import MOST_BUCKETS, UNIT, Query
from iqdb_core.index.ranking.rare_bits import DONE, OVERFLOW, ROW_WORDS, RareBits
from iqdb_core.index.segment.layout import H_AVERAGES_AT, H_DOCUMENTS_AT, H_IDS_AT, H_IMAGES, VECTOR_IMAGES
from iqdb_core.index.segment.postings import SegmentView, fetch_grouped, is_in_grouped, is_in_rare
from iqdb_core.index.simd.memory import VECTOR_WORDS, aligned_zeros
from iqdb_core.index.simd.planes import PLANE_WORDS, PLANES, at_least, load_planes
from iqdb_core.index.simd.vector import load, prefetch, store
from iqdb_core.index.simd.words import item, popcount, trailing_zeros
from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW: Final = 16
"""Up to this many candidates are scored at once, without picking the best among them first."""
MATTER: Final = PLANE_WORDS
"""Where the candidates start in `Scoring.planes`, behind the nine planes: one bit per image of the vector."""
_PICKED: Final = MATTER + VECTOR_WORDS
MOST_UNITS: Final = (1 << PLANES) - 1


class Scoring(NamedTuple):
    """What scoring the images of one vector needs; scratch of one thread.

    Parameters
    ----------
    planes : (12 * 8,) uint64 ndarray
        The nine planes of the vector; its candidates, one bit per image; those of them that are scored next;
        and scratch.
    slots : (512,) int64 ndarray
        The slots to be scored.
    perhaps : (121,) int64 ndarray
        Scratch: the grouped buckets that an image may hold, as places in `Lookup.grouped`.
    """

    planes: NDArray[np.uint64]
    slots: NDArray[np.int64]
    perhaps: NDArray[np.int64]


def create_scoring() -> Scoring:
    """Return memory for one thread."""
    return Scoring(
        aligned_zeros(PLANE_WORDS + 3 * VECTOR_WORDS),
        np.zeros(VECTOR_IMAGES, dtype=np.int64),
        np.zeros(MOST_BUCKETS + 1, dtype=np.int64),
    )


@kernel(inline=True)
def units_needed(least: float, penalty: float) -> int:
    """Return the fewest units with which an image can reach `least` hundredths in spite of its penalty.

    512 if none can.
    """
    units = (least + penalty) / UNIT
    if not units > 0.0:
        return 0
    if units > MOST_UNITS:
        return MOST_UNITS + 1
    return np.int64(np.ceil(units))


@kernel()
def score_vector(
    view: SegmentView,
    vector: int,
    penalty: float,
    query: Query,
    lookup: Lookup,
    rare: RareBits,
    scoring: Scoring,
    best: Best,
) -> None:
    """Score the candidates of a vector, which are marked in `scoring.planes` beside their units.

    `penalty` is the least penalty of any image of the vector.
    """
    planes = scoring.planes
    n_candidates = _count(planes, MATTER)
    while n_candidates > 0:
        few = max(FEW, len(best.scores) - best.count[0])
        if n_candidates <= few:
            for lane in range(VECTOR_WORDS):
                planes[_PICKED + lane] = planes[MATTER + lane]
            _score_picked(view, vector, query, lookup, rare, scoring, best)
            return
        _pick_highest(planes, few)
        _score_picked(view, vector, query, lookup, rare, scoring, best)
        needed = units_needed(bar(best), penalty)
        if needed > MOST_UNITS:
            return
        _keep_at_least(planes, needed, rare.bits, vector)
        n_candidates = _count(planes, MATTER)


@kernel(inline=True)
def _count(planes: NDArray[np.uint64], first: int) -> int:
    """Return how many bits of a vector are 1."""
    n = 0
    for lane in range(first, first + VECTOR_WORDS):
        n += np.int64(popcount(planes[lane]))
    return n


@kernel()
def _pick_highest(planes: NDArray[np.uint64], few: int) -> None:
    """Move the `few` candidates with the most units, and those that tie with the last, to the picked ones."""
    # Walk down the bits of the units. Picked ones have more units than all others; `equal` are those that the
    # bits so far do not tell from the last one to be picked.
    equal = planes[_PICKED + VECTOR_WORDS : _PICKED + 2 * VECTOR_WORDS]
    for lane in range(VECTOR_WORDS):
        equal[lane] = planes[MATTER + lane]
        planes[_PICKED + lane] = np.uint64(0)
    n_picked = 0
    for j in range(PLANES - 1, -1, -1):
        n = n_picked
        for lane in range(VECTOR_WORDS):
            n += np.int64(popcount(equal[lane] & planes[j * VECTOR_WORDS + lane]))
        for lane in range(VECTOR_WORDS):
            has_bit = planes[j * VECTOR_WORDS + lane]
            if n >= few:
                equal[lane] &= has_bit
            else:
                planes[_PICKED + lane] |= equal[lane] & has_bit
                equal[lane] &= ~has_bit
        if n < few:
            n_picked = n
    for lane in range(VECTOR_WORDS):
        planes[_PICKED + lane] |= equal[lane]
        planes[MATTER + lane] &= ~planes[_PICKED + lane]


@kernel()
def _keep_at_least(
    planes: NDArray[np.uint64], needed: int, rare_bits: NDArray[np.uint64], vector: int
) -> None:
    """Drop candidates with fewer units than `needed`, except those with too many rare units to count."""
    overflow = load(rare_bits, OVERFLOW + vector * VECTOR_WORDS)
    store(planes, MATTER, load(planes, MATTER) & (at_least(needed, load_planes(planes, 0)) | overflow))


@kernel()
def _score_picked(
    view: SegmentView,
    vector: int,
    query: Query,
    lookup: Lookup,
    rare: RareBits,
    scoring: Scoring,
    best: Best,
) -> None:
    """Score the picked images of a vector that may reach the bar by their units and their own penalty."""
    words = view.words
    averages_at = np.int64(words[H_AVERAGES_AT])
    n_images = np.int64(words[H_IMAGES])
    n_picked = 0
    for lane in range(VECTOR_WORDS):
        left = scoring.planes[_PICKED + lane]
        first = (vector * VECTOR_WORDS + lane) * 64
        while left != np.uint64(0):
            slot = first + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            scoring.slots[n_picked] = slot
            n_picked += slot < n_images  # where no units are needed, bits behind the last image are set too
            prefetch(words, averages_at + (slot * CHANNELS >> 1))
    averages = words.view(np.float32)
    least = bar(best)
    n_slots = np.int64(0)
    for i in range(n_picked):
        slot = scoring.slots[i]
        penalty = _penalty_of(query, averages, averages_at * 2 + slot * CHANNELS)
        scoring.slots[n_slots] = slot
        n_slots += _units_of(scoring.planes, rare.bits, slot) * UNIT - penalty >= least
    score_slots(view, n_slots, query, lookup, rare, scoring, best)


@kernel()
def score_slots(
    view: SegmentView,
    n_slots: int,
    query: Query,
    lookup: Lookup,
    rare: RareBits,
    scoring: Scoring,
    best: Best,
) -> None:
    """Score the images of the first `n_slots` of `scoring.slots`, and offer those that are alive."""
    words = view.words
    averages_at = np.int64(words[H_AVERAGES_AT]) * 2
    documents_at = np.int64(words[H_DOCUMENTS_AT]) * 4
    ids_at = np.int64(words[H_IDS_AT])
    averages = words.view(np.float32)
    documents = words.view(np.uint16)
    divisor = query.sizes[1]
    for i in range(n_slots):
        slot = scoring.slots[i]
        penalty = _penalty_of(query, averages, averages_at + slot * CHANNELS)
        least = bar(best)
        shared = _shared_hundredths(words, slot, least + penalty, lookup, rare.bits, scoring.perhaps)
        if shared < 0:
            continue
        document = np.int64(item(documents, documents_at + slot))
        if item(view.alive, document >> 6) >> np.uint64(document & 63) & np.uint64(1):
            image_id = np.int64(item(words, ids_at + document))
            offer(best, score_of(shared - penalty, divisor), image_id, view.number, document, divisor)


@kernel(inline=True)
def _penalty_of(query: Query, averages: NDArray[np.float32], first: int) -> float:
    """Return the penalty of an image whose averages start at `first`."""
    weights = query.average_weights
    wanted = query.averages
    penalty = weights[0] * abs(wanted[0] - np.float64(item(averages, first)))
    penalty += weights[1] * abs(wanted[1] - np.float64(item(averages, first + 1)))
    return penalty + weights[2] * abs(wanted[2] - np.float64(item(averages, first + 2)))


@kernel(inline=True)
def _units_of(planes: NDArray[np.uint64], rare_bits: NDArray[np.uint64], slot: int) -> int:
    """Return the units of an image, or MOST_UNITS + 1 if it has too many rare ones to count."""
    bit = np.uint64(slot & 63)
    if item(rare_bits, OVERFLOW + (slot >> 6)) >> bit & np.uint64(1):
        return np.int64(MOST_UNITS + 1)
    lane = (slot >> 6) & (VECTOR_WORDS - 1)
    units = 0
    for j in range(PLANES):
        units |= np.int64(item(planes, j * VECTOR_WORDS + lane) >> bit & np.uint64(1)) << j
    return units


@kernel()
def _shared_hundredths(
    words: NDArray[np.uint64],
    slot: int,
    least: float,
    lookup: Lookup,
    rare_bits: NDArray[np.uint64],
    perhaps: NDArray[np.int64],
) -> int:
    """Return the hundredths that an image shares with the query, or -1 if they are below `least`."""
    word = slot >> 6
    bit = np.uint64(slot & 63)
    one = np.uint64(1)
    exact_rows = lookup.exact[ROW]
    exact_weights = lookup.exact[WEIGHT]
    shared = 0
    for k in range(lookup.numbers[N_EXACT]):
        shared += np.int64(item(words, exact_rows[k] + word) >> bit & one) * exact_weights[k]
    any_rare = (
        item(rare_bits, word) | item(rare_bits, ROW_WORDS + word) | item(rare_bits, 2 * ROW_WORDS + word)
    )
    any_rare |= (
        item(rare_bits, 3 * ROW_WORDS + word)
        | item(rare_bits, OVERFLOW + word)
        | item(rare_bits, DONE + word)
    )
    if any_rare >> bit & one:
        for k in range(lookup.numbers[N_RARE]):
            if is_in_rare(words, lookup.rare[LIST, k], lookup.rare[COUNT, k], slot):
                shared += lookup.rare[WEIGHT, k]
    # A bit in a shared row only means "perhaps": the list of the bucket is read only if it can matter.
    grouped_rows = lookup.grouped[ROW]
    n_perhaps = 0
    bound = shared
    for k in range(lookup.numbers[N_GROUPED]):
        perhaps[n_perhaps] = k
        if item(words, grouped_rows[k] + word) >> bit & one:
            bound += lookup.grouped[WEIGHT, k]
            n_perhaps += 1
    if bound < least:
        return -1
    for i in range(n_perhaps):
        fetch_grouped(words, lookup.grouped[LIST, perhaps[i]], slot)
    for i in range(n_perhaps):
        k = perhaps[i]
        if not is_in_grouped(words, lookup.grouped[LIST, k], slot):
            bound -= lookup.grouped[WEIGHT, k]
            if bound < least:
                return -1
    return bound
