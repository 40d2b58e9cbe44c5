"""Bucket counts against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.bucket_counts import BucketCounts
from iqdb_core.index.rows import Signatures
from iqdb_core.index.segment.buckets import count_images
from iqdb_core.index.segment.layout import SEGMENT_IMAGES
from iqdb_core.model import ChangeBatch
from tests.fixtures.index_rows import cheap_rows, random_rows, signature_at
from tests.naive_index import naive_bucket_counts

NONE = Signatures(np.empty((0, 3)), np.empty((0, 3, 40), dtype=np.int16))


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.sampled_from([40, 45, 16383]), st.booleans())
def test_counts_equal_the_naive_ones(seed: int, n: int, n_positions: int, is_shuffled: bool) -> None:
    rng = np.random.default_rng(seed)
    averages, positions = random_rows(rng, n, n_positions=n_positions)
    if is_shuffled and n:
        positions = rng.permuted(positions, axis=2)
        positions[:, :, 7] = positions[:, :, 30]  # repeats far apart
        positions[:, :, 2] = positions[:, :, 3]
    counts = BucketCounts()
    counts.change(Signatures(averages, positions), [])
    assert (counts.counts == naive_bucket_counts(averages, positions)).all()
    assert (counts.nonempty == (counts.counts > 0)).all()
    half = n // 2
    counts.change(NONE, [Signatures(averages[:half], positions[:half])])
    assert (counts.counts == naive_bucket_counts(averages[half:], positions[half:])).all()
    assert (counts.nonempty == (counts.counts > 0)).all()


def test_published_array_is_replaced_only_when_a_bucket_fills_or_empties() -> None:
    averages, positions = random_rows(np.random.default_rng(1), 1)
    counts = BucketCounts()
    empty = counts.nonempty
    counts.change(Signatures(averages, positions), [])
    full = counts.nonempty
    assert full is not empty
    assert not empty.any()
    counts.change(Signatures(averages, positions), [])
    assert counts.nonempty is full
    counts.change(NONE, [Signatures(averages, positions)])
    assert counts.nonempty is full
    counts.change(NONE, [Signatures(averages, positions)])
    assert counts.nonempty is not full
    assert not counts.nonempty.any()


def test_image_replaced_by_itself_changes_nothing() -> None:
    rows = Signatures(*random_rows(np.random.default_rng(2), 5))
    counts = BucketCounts()
    counts.change(rows, [])
    before = counts.counts.copy()
    counts.change(rows, [rows])
    assert (counts.counts == before).all()


def test_published_array_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        BucketCounts().nonempty[0] = True


@given(st.lists(st.sampled_from([-16383, -2, -1, 1, 2, 16383]), min_size=40, max_size=40))
def test_repeats_in_any_order_count_once(signed: list[int]) -> None:
    positions = np.array([[signed] * 3], dtype=np.int16)
    counts = np.zeros(98_304, dtype=np.int32)
    count_images(counts, np.array([[0.5, 0.5, 0.5]]), positions, 1)
    assert counts.max() == 1
    assert counts.sum() == 3 * len(set(signed))


@pytest.mark.parametrize("head_capacity", [1_024, 65_536])
def test_a_whole_segment_at_once_is_counted_once(head_capacity: int) -> None:
    """Its builder counts as well; a head that takes as many rows has none."""
    rng = np.random.default_rng(3)
    n = SEGMENT_IMAGES
    averages, positions = cheap_rows(rng, n)
    averages[:99, 1:] = 0.0  # grey
    positions[7, :, 1] = positions[7, :, 0]
    rows = ChangeBatch(np.arange(1, n + 1), np.arange(n), np.ones(n, dtype=bool), averages, positions)
    with ImageIndex.open(None, store_id="s", options=IndexOptions(head_capacity=head_capacity)) as index:
        index.apply(rows)
        expected = np.zeros_like(index._counts.counts)
        count_images(expected, averages, positions, 1)
        assert (index._counts.counts == expected).all()
        assert (index._snapshot.nonempty == (expected > 0)).all()
        assert index.query(signature_at(averages, positions, 7), 1)[0].score == 100.0
