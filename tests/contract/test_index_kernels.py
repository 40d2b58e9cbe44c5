"""The compiled ranking against plain oracles: ids and scores equal exactly, whatever the index looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.ranking.exact import MOST_UNITS
from iqdb_core.index.ranking.query import UNITS
from iqdb_core.index.ranking.search import MIN_SHARED_SEGMENTS
from iqdb_core.model import BUCKETS, KEPT, PLANE, ChangeBatch, Match, Signature
from tests.fixtures.index_rows import signature_at
from tests.naive_index import SKETCH_WEIGHTS, WEIGHTS, NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Rows = tuple["NDArray[np.float64]", "NDArray[np.int16]"]


def batch(rows: Rows, first_id: int = 0, first_seq: int = 1) -> ChangeBatch:
    n = len(rows[0])
    return ChangeBatch(
        np.arange(first_seq, first_seq + n),
        np.arange(first_id, first_id + n),
        np.ones(n, dtype=bool),
        *rows,
    )


def deletes(image_ids: NDArray[np.int64], first_seq: int) -> ChangeBatch:
    n = len(image_ids)
    return ChangeBatch(
        np.arange(first_seq, first_seq + n),
        np.sort(image_ids),
        np.zeros(n, dtype=bool),
        np.zeros((n, 3)),
        np.zeros((n, 3, KEPT), dtype=np.int16),
    )


def drawn(rng: np.random.Generator, n: int, pool: int) -> Rows:
    """Return n signatures with positions among the first `pool` ones; small pools make dense buckets."""
    steps = np.sort(rng.integers(0, pool - KEPT + 1, (n, 3, KEPT)), axis=2)
    distinct = steps + np.arange(1, KEPT + 1)
    positions = (distinct * rng.choice([-1, 1], (n, 3, KEPT))).astype(np.int16)
    averages = np.stack([rng.random(n), *rng.normal(0, 0.05, (2, n))], axis=1)
    averages[rng.random(n) < 0.1, 1:] = 0  # grey
    return averages, positions


class Oracle:
    """Scores every image with one look-up per position: for many images without repeats.

    Parameters
    ----------
    rows : Rows
    alive : ndarray of bool, shape (n,), optional
        Which of them are in the index; all of them otherwise.
    """

    def __init__(self, rows: Rows, alive: NDArray[np.bool_] | None = None) -> None:
        self._averages, positions = rows
        self._alive = np.ones(len(positions), dtype=bool) if alive is None else alive
        self._buckets = (
            np.arange(3)[:, None] * 2 * PLANE + (positions < 0) * PLANE + np.abs(positions.astype(np.int64))
        )
        self._is_grey = np.abs(self._averages[:, 1]) + np.abs(self._averages[:, 2]) < 6 / 1000
        self._held = np.zeros(BUCKETS, dtype=bool)
        self._held[self._buckets[self._alive][:, 0]] = True
        self._held[self._buckets[self._alive & ~self._is_grey][:, 1:]] = True

    def ranked(self, query: Signature, *, is_sketch: bool = False) -> list[tuple[int, float]]:
        """Return all that are alive, best first."""
        table = SKETCH_WEIGHTS if is_sketch else WEIGHTS
        channels = 1 if query.is_grey else 3
        weights = np.zeros(BUCKETS, dtype=np.int64)
        for channel in range(channels):
            for position in query.signed_positions()[channel].tolist():
                bucket = (channel * 2 + (position < 0)) * PLANE + abs(position)
                bin_ = min(max(abs(position) // 128, abs(position) % 128), 5)
                weights[bucket] = table[channel][bin_] * self._held[bucket]
        divisor = int(weights.sum())
        shared = weights[self._buckets[:, 0]].sum(axis=1)
        if channels > 1:
            shared += np.where(self._is_grey, 0, weights[self._buckets[:, 1:]].sum(axis=(1, 2)))
        penalty = np.zeros(len(shared))
        for channel in range(channels):
            stored = self._averages[:, channel].astype(np.float32).astype(np.float64)
            penalty += table[channel][0] * np.abs(stored - float(np.float32(query.averages[channel])))
        scores = (shared - penalty) * 100 / divisor if divisor else np.zeros(len(shared))
        order = np.lexsort((np.arange(len(scores)), -scores))
        best = order[self._alive[order]]
        return list(zip(best.tolist(), scores[best].tolist(), strict=True))


def at_least(least: float | None, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return those of a score."""
    return ranked if least is None else [pair for pair in ranked if pair[1] >= least]


def pairs(matches: list[Match]) -> list[tuple[int, float]]:
    return [(match.image_id, match.score) for match in matches]


@pytest.fixture
def index() -> Iterator[ImageIndex]:
    with ImageIndex.open(None, store_id="kernels", options=IndexOptions(query_threads=2)) as made:
        yield made


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 511, 512, 513, 1023, 1025, 4096, 4097, 20_000])
@pytest.mark.parametrize("pool", [40, 60, 300, 3000])
def test_every_size_and_density(index: ImageIndex, n: int, pool: int) -> None:
    rng = np.random.default_rng(n * 7 + pool)
    rows = drawn(rng, n, pool)
    index.apply(batch(rows))
    index.maintain()
    oracle = Oracle(rows)
    for row in rng.integers(0, n, 4).tolist():
        query = signature_at(*rows, row)
        ranked = oracle.ranked(query)
        for limit in (1, 10, 1000):
            expected = ranked[:limit]
            assert pairs(index.query(query, limit)) == expected
            middle = expected[len(expected) // 2][1]
            assert pairs(index.query(query, limit, middle)) == at_least(middle, expected)
    stranger = signature_at(*drawn(rng, 1, max(pool, 200)), 0)
    for is_sketch in (False, True):
        expected = oracle.ranked(stranger, is_sketch=is_sketch)[:100]
        assert pairs(index.query(stranger, 100, is_sketch=is_sketch)) == expected
    sketch = signature_at(*rows, 0)
    expected = oracle.ranked(sketch, is_sketch=True)[:10]
    assert pairs(index.query(sketch, 10, is_sketch=True)) == expected
    least = expected[len(expected) // 2][1]
    assert pairs(index.query(sketch, 10, least, is_sketch=True)) == at_least(least, expected)


@pytest.mark.parametrize("n", [65_535, 65_536, 65_537, 131_073])
def test_around_the_size_of_a_segment(index: ImageIndex, n: int) -> None:
    rng = np.random.default_rng(n)
    rows = drawn(rng, n, 120)
    index.apply(batch(rows))
    alive = rng.random(n) < 0.7
    index.apply(deletes(np.flatnonzero(~alive), n + 1))
    assert index.image_count == alive.sum()
    oracle = Oracle(rows, alive)
    for row in (0, n - 1, n // 2):
        query = signature_at(*rows, row)
        ranked = oracle.ranked(query)
        for limit, least in ((10, None), (1000, None), (1000, 30.0), (10, 99.0)):
            assert pairs(index.query(query, limit, least)) == at_least(least, ranked[:limit])
    index.maintain()
    assert pairs(index.query(query, 50)) == ranked[:50]


@pytest.mark.parametrize("n", [10, 3000, 70_000])
def test_all_images_equal(index: ImageIndex, n: int) -> None:
    one = drawn(np.random.default_rng(3), 1, 300)
    index.apply(batch((np.repeat(one[0], n, axis=0), np.repeat(one[1], n, axis=0))))
    query = signature_at(*one, 0)
    found = index.query(query, 1000)
    assert [match.image_id for match in found] == list(range(min(n, 1000)))  # ties go by id
    assert {match.score for match in found} == {100.0}
    assert index.query(query, 1000, 100.1) == []


def test_all_deleted_and_nothing_shared(index: ImageIndex) -> None:
    rng = np.random.default_rng(4)
    rows = drawn(rng, 5000, 100)
    index.apply(batch(rows))
    far = signature_at(
        rows[0], (16383 - np.arange(KEPT)).astype(np.int16) * np.ones((5000, 3, 1), np.int16), 0
    )
    expected = Oracle(rows).ranked(far)[:10]
    assert pairs(index.query(far, 10)) == expected == [(number, 0.0) for number in range(10)]
    index.apply(deletes(np.arange(5000), 5001))
    assert index.query(signature_at(*rows, 7), 10) == []
    index.maintain()
    assert index.query(signature_at(*rows, 7), 10) == []
    assert index.image_count == 0


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 90),
    reach=st.integers(1, 400),
    limit=st.integers(1, 1000),
    min_score=st.one_of(st.none(), st.floats(-200, 110)),
    is_sketch=st.booleans(),
)
def test_open_inputs_with_repeats_and_grey(
    seed: int, n: int, reach: int, limit: int, min_score: float | None, is_sketch: bool
) -> None:
    """Positions may repeat within a channel, in any order; averages may be anything finite."""
    rng = np.random.default_rng(seed)
    positions = (rng.integers(1, reach + 1, (n + 1, 3, KEPT)) * rng.choice([-1, 1], (n + 1, 3, KEPT))).astype(
        np.int16
    )
    averages = rng.normal(0, 0.3, (n + 1, 3)) * rng.choice([0.0, 0.01, 1.0], (n + 1, 1))
    with ImageIndex.open(None, store_id="open", options=IndexOptions(head_capacity=16)) as index:
        model = NaiveIndex()
        for start in range(0, n, 7):
            stop = min(n, start + 7)
            part = batch((averages[start:stop], positions[start:stop]), start, start + 1)
            index.apply(part)
            model.apply(part)
        query = signature_at(averages, positions, n)
        for one in (query, signature_at(averages, positions, 0)):
            found = index.query(one, limit, min_score, is_sketch=is_sketch)
            assert found == model.query(one, limit, min_score, is_sketch=is_sketch)


@pytest.mark.parametrize("kind", [0, 1])
def test_what_a_query_can_share_fits_into_the_planes(kind: int) -> None:
    """Positions may be asked for with both signs: a bin has 4 * bin + 2 buckets, the last has plenty."""
    most = 0
    for units in UNITS[kind]:
        rooms = [4 * bin_ + 2 for bin_ in (1, 2, 3, 4)] + [KEPT]
        kept = [int(unit) for unit, room in zip(units, rooms, strict=True) for _ in range(room)]
        most += sum(sorted(kept)[-KEPT:])
    assert most <= MOST_UNITS


@pytest.mark.parametrize("threads", [2, 3])
def test_queries_that_share_their_segments_answer_alike(threads: int) -> None:
    """Several threads scan parts of the segments and share one bar; ties and limits come out as from one."""
    rng = np.random.default_rng(12)
    rows = drawn(rng, 3000, 50)
    oracle = Oracle(rows)
    options = IndexOptions(head_capacity=25, merge_fan_out=1000, query_threads=threads)
    with ImageIndex.open(None, store_id="threads", options=options) as index:
        for start in range(0, 3000, 50):
            index.apply(batch((rows[0][start : start + 50], rows[1][start : start + 50]), start, start + 1))
        assert index.stats().segments >= threads * MIN_SHARED_SEGMENTS
        for row in rng.integers(0, 3000, 10).tolist():
            query = signature_at(*rows, row)
            ranked = oracle.ranked(query)
            for limit in (1, 10, 1000):
                assert pairs(index.query(query, limit)) == ranked[:limit]
            bar = ranked[39][1]
            assert pairs(index.query(query, 1000, bar)) == at_least(bar, ranked[:1000])
