"""Exact ranking in numpy: every image of every segment and of the head is scored.

Equivalent to `ranking.search`, at about 10 ms per segment. Used in its place until that is compiled, and by
tests as its oracle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.plain.buckets import buckets_of, held_buckets
from iqdb_core.index.plain.segment import slots_of
from iqdb_core.index.rows import HEAD_SEGMENT, HeadRows, stored_averages
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import layout
from iqdb_core.index.segment.weights import BINS, SKETCH_WEIGHTS, WEIGHTS
from iqdb_core.model import BUCKETS, CHANNELS, PLANE, SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.ranking.arithmetic import Columns
    from iqdb_core.index.segment.table import SegmentTable
    from iqdb_core.model import Signature


def search(
    table: SegmentTable,
    head: HeadRows,
    signature: Signature,
    *,
    limit: int,
    nonempty: NDArray[np.bool_],
    min_score: float | None = None,
    is_sketch: bool = False,
    threads: QueryThreads,
) -> Columns:
    """Return the live images most like a signature, as `ranking.search.search` does."""
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    table_of_weights = SKETCH_WEIGHTS if is_sketch else WEIGHTS
    costs = [row[0] for row in table_of_weights[: 1 if signature.is_grey else CHANNELS]]
    weights = bucket_weights(signature, nonempty, table_of_weights)
    divisor = int(weights.sum())
    averages = stored_averages(np.array([signature.averages]))[0]
    found: list[Columns] = []
    with threads.turn(0):
        for number, (segment, alive) in enumerate(zip(table.segments, table.alive, strict=True)):
            shared, stored, documents = _segment_columns(segment.words, weights)
            scores = _scores(shared, stored, averages, divisor, costs)
            is_live = bitmap.are_alive(alive, documents)
            image_ids = segment.image_ids[documents]
            found.append(_best(image_ids, scores, number, documents, is_live, limit, min_score))
        stored = stored_averages(head.averages)
        scores = _scores(_head_shared(head, weights), stored, averages, divisor, costs)
        rows = np.arange(len(head.image_ids))
        found.append(_best(head.image_ids, scores, HEAD_SEGMENT, rows, head.alive, limit, min_score))
    image_ids, scores, segments, documents = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((image_ids, -scores))[:limit]
    return (
        image_ids[order],
        scores[order],
        segments[order].astype(np.int32),
        documents[order].astype(np.int32),
    )


def bucket_weights(
    signature: Signature, nonempty: NDArray[np.bool_], weights_by_bin: Sequence[Sequence[int]] = WEIGHTS
) -> NDArray[np.int64]:
    """Return the weight of each of the 98,304 buckets for a query, in hundredths; 0 if not in the query."""
    positions = signature.signed_positions()[None]
    magnitudes = np.abs(positions.astype(np.int64))
    counts = (magnitudes > 0) & (magnitudes < PLANE)
    if signature.is_grey:
        counts[:, 1:] = False
    bins = np.minimum(np.maximum(magnitudes // SIDE, magnitudes % SIDE), BINS - 1)
    of_positions = np.array(weights_by_bin)[np.arange(CHANNELS)[:, None], bins]
    weights = np.zeros(BUCKETS, dtype=np.int64)
    weights[buckets_of(positions)[counts]] = of_positions[counts]
    return weights * nonempty


def _segment_columns(
    words: NDArray[np.uint64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return for each slot the shared weight in hundredths, its averages (n, 3) and its document."""
    n = int(words[layout.H_IMAGES])
    shared = np.zeros(n, dtype=np.int64)
    for bucket in np.flatnonzero(weights).tolist():
        shared[slots_of(words, bucket)] += weights[bucket]
    first = int(words[layout.H_AVERAGES_AT]) * 2
    averages = words.view(np.float32)[first : first + n * CHANNELS].reshape(n, CHANNELS)
    first = int(words[layout.H_DOCUMENTS_AT]) * 4
    return shared, averages, words.view(np.uint16)[first : first + n].astype(np.int64)


def _head_shared(head: HeadRows, weights: NDArray[np.int64]) -> NDArray[np.int64]:
    shared = np.zeros(len(head.image_ids), dtype=np.int64)
    rows, buckets = held_buckets(head.averages, head.positions)
    np.add.at(shared, rows, weights[buckets])
    return shared


def _scores(
    shared: NDArray[np.int64],
    stored: NDArray[np.float32],
    averages: NDArray[np.float32],
    divisor: int,
    costs: Sequence[int],
) -> NDArray[np.float64]:
    if divisor == 0:
        return np.zeros(len(shared))
    penalties = np.zeros(len(shared))
    for channel, cost in enumerate(costs):
        difference = np.float64(averages[channel]) - stored[:, channel].astype(np.float64)
        penalties += cost * np.abs(difference)
    return (shared - penalties) * 100.0 / divisor


def _best(
    image_ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    segment: int,
    documents: NDArray[np.int64],
    is_live: NDArray[np.bool_],
    limit: int,
    min_score: float | None,
) -> Columns:
    """Return the best rows of one part, unordered, and all that tie with the last of them."""
    if min_score is not None:
        is_live = is_live & (scores >= min_score)
    chosen = np.flatnonzero(is_live)
    if len(chosen) > limit:
        least = -np.partition(-scores[chosen], limit - 1)[limit - 1]
        chosen = chosen[scores[chosen] >= least]
    segments = np.full(len(chosen), segment, dtype=np.int32)
    return image_ids[chosen], scores[chosen], segments, documents[chosen].astype(np.int32)
