"""What signatures share and score, many pairs at once, against one pair at a time and against the ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.evidence.distinctive import ENOUGH, MOST_HELD, USUAL_HELD, distinctive_of, effort
from iqdb_core.index.evidence.likelihood import Population
from iqdb_core.index.evidence.sharing import Held, held_by, scores_of, shared_by
from iqdb_core.index.rows import Signatures
from iqdb_core.model import BUCKETS, KEPT, PLANE, ChangeBatch, Signature
from tests.fixtures.index_rows import realistic_rows, signature_at


def rows_of(seed: int, n: int) -> Signatures:
    rng = np.random.default_rng(seed)
    averages, positions = realistic_rows(rng, n)
    positions[::3, :, 7] = positions[::3, :, 30]  # occurs again
    positions[1::4, 1] = -np.arange(1, KEPT + 1)  # a flat channel
    return Signatures(averages, rng.permuted(positions, axis=2))


def buckets_of(signature: Signature) -> set[int]:
    """Look at one position after the other."""
    held = set()
    for channel in range(1 if signature.is_grey else 3):
        for position in signature.signed_positions()[channel].tolist():
            held.add((channel * 2 + (position < 0)) * PLANE + abs(position))
    return held


def informative_in(signature: Signature) -> set[int]:
    informative = buckets_of(signature)
    for channel in range(3):
        filler = {(channel * 2 + 1) * PLANE + place for place in range(1, KEPT + 1)} & informative
        if len(filler) >= 14:
            informative -= filler
    return informative


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_pairs_share_what_both_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked, others = rows_of(seed, 5), rows_of(seed + 1, 9)
    others.positions[2:5] = asked.positions[1:4]
    held, of_others = held_by(asked), held_by(others)
    pairs = rng.integers(0, 5, 30), rng.integers(0, 9, 30)
    shared = shared_by(held, of_others, *pairs)
    ends = [*shared.starts[1:].tolist(), len(shared.places)]
    for first, end, number, row in zip(shared.starts.tolist(), ends, *pairs, strict=True):
        places = shared.places[first:end] - number * (3 * KEPT + 1) - 1
        found = held.buckets[number, places[places >= 0]].tolist()
        both = buckets_of(asked.signature(number)) & buckets_of(others.signature(row))
        assert sorted(found) == sorted(both)
    for number in range(5):
        assert set(held.buckets[number, held.is_held[number]].tolist()) == buckets_of(asked.signature(number))
        informative = set(held.buckets[number, held.is_informative[number]].tolist())
        assert informative == informative_in(asked.signature(number))


def test_scores_are_those_of_the_ranking_to_the_bit() -> None:
    rows = rows_of(3, 3000)
    with ImageIndex.open(None, store_id="scores", options=IndexOptions()) as index:
        n = len(rows.averages)
        seqs, ids = np.arange(1, n + 1), np.arange(n)
        index.apply(ChangeBatch(seqs, ids, np.ones(n, np.bool_), rows.averages, rows.positions))
        nonempty = index._counts.nonempty
        for seed in range(8):
            query = signature_at(*rows_of(seed, 4), seed % 4)
            asked = Signatures(np.array([query.averages]), query.signed_positions()[None])
            held = held_by(asked)
            ranked = index.query(query, n)
            found = np.array([match.image_id for match in ranked])
            shared = shared_by(held, held_by(rows), np.zeros(n, np.int64), found)
            scores = scores_of(held, asked.averages, nonempty, shared, rows.averages[found])
            assert scores.tolist() == [match.score for match in ranked]


def place_of(bucket: int) -> tuple[int, int]:
    """Return channel and signed position."""
    kind, position = divmod(bucket, PLANE)
    return kind // 2, -position if kind % 2 else position


def naive_distinctive(signature: Signature, shares: dict[int, float], bar: int, more: float) -> list[int]:
    used: list[int] = []
    expected = bits = 0.0
    for bucket in sorted(informative_in(signature), key=lambda bucket: (shares[bucket], *place_of(bucket))):
        expected += shares[bucket]
        is_used = expected <= USUAL_HELD * more or (expected <= MOST_HELD * more and bits < ENOUGH * bar)
        if not is_used or shares[bucket] > 0.5:
            break
        used.append(bucket)
        bits += math.floor(-math.log2(shares[bucket]))
    return used


@pytest.mark.parametrize("n", [1, 30_000, 1_000_000, 40_000_000])
def test_rarest_buckets_tell_and_commonest_come_behind(n: int) -> None:
    rows = rows_of(5, 24)
    rng = np.random.default_rng(n)
    counts = (n * rng.random(BUCKETS) ** 8).astype(np.int32)
    population = Population(counts, n)
    distinctive, is_weak = distinctive_of(held_by(rows), population)
    assert distinctive.bar == n.bit_length()
    for number in range(24):
        informative = sorted(informative_in(rows.signature(number)))
        shares = dict(zip(informative, population.shares(np.array(informative)).tolist(), strict=True))
        count, end = int(distinctive.counts[number]), int(distinctive.ends[number])
        used = distinctive.buckets[number, :count].tolist()
        assert used == naive_distinctive(rows.signature(number), shares, distinctive.bar, effort(n))
        bits = [math.floor(-math.log2(shares[bucket])) for bucket in used]
        assert distinctive.bits[number, :count].tolist() == bits
        assert is_weak[number] == (sum(bits) < ENOUGH * distinctive.bar)
        rest = [bucket for bucket in informative if bucket not in used]
        common = distinctive.buckets[number, count:end].tolist()
        assert len(common) == min(12, len(rest)) == len(set(common))
        least = min((shares[bucket] for bucket in common), default=0.0)
        assert all(shares[bucket] <= least for bucket in set(rest) - set(common))
        assert (distinctive.bits[number, count:end] == 4).all()


def test_a_small_index_is_looked_at_closely() -> None:
    assert [effort(n) for n in (0, 1, 100_000, 500_000, 10**6, 10**9)] == [10, 10, 10, 2, 1, 1]


def test_held_is_of_any_order() -> None:
    rows = rows_of(9, 6)
    other = Signatures(rows.averages, np.sort(rows.positions, axis=2))
    first, second = held_by(rows), held_by(other)
    for one, two in zip(first, second, strict=True):
        assert (one == two).all()
    assert isinstance(first, Held)
