"""Images that share rare buckets: the compiled form against the plain one, exactly, whatever is asked for."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.index.plain import sharers as plain
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.ranking import sharers as compiled
from iqdb_core.index.ranking.arithmetic import MOST_BITS, DistinctiveBuckets
from iqdb_core.index.rows import HeadRows, Rows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import build
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.model import KEPT, PLANE
from tests.fixtures.index_rows import realistic_rows

THREADS = QueryThreads(1, 0)
PARTS = (9_000, 600, 20_000, 1)


@functools.cache
def index() -> tuple[SegmentTable, HeadRows, Rows]:
    """Return segments with dead images, a head with some, and the rows of all."""
    rng = np.random.default_rng(11)
    n = sum(PARTS) + 500
    averages, positions = realistic_rows(rng, n)
    positions[::5, :, 7] = positions[::5, :, 30]
    for first in range(0, n - 40, 40):  # copies, so that some share much
        keep = rng.random((8, 3, KEPT)) < 0.7
        positions[first + 1 : first + 9][keep] = np.broadcast_to(positions[first], keep.shape)[keep]
    rows = Rows(rng.permutation(10 * n)[:n].astype(np.int64), averages, positions)
    segments, first = [], 0
    for size in PARTS:
        segments.append(build.build_segment(rows[first : first + size].in_order()).segment)
        first += size
    bitmaps = [
        bitmap.without(
            bitmap.all_alive(segment.n_images, segment.n_words),
            np.flatnonzero(rng.random(segment.n_images) < 0.1),
        )
        for segment in segments
    ]
    head = HeadRows(
        rows.image_ids[first:], rows.averages[first:], rows.positions[first:], rng.random(n - first) < 0.9
    )
    return SegmentTable.create(segments, bitmaps), head, rows


def random_buckets(seed: int, m: int, *, most_bits: int = 12) -> DistinctiveBuckets:
    """Return random choices of the buckets of images, each with random bits."""
    rng = np.random.default_rng(seed)
    _, _, rows = index()
    buckets, bits = np.zeros((2, m, 3 * KEPT), np.int64)
    counts, ends = np.zeros((2, m), np.int64)
    for k in range(m):
        signed = rows.positions[rng.integers(0, len(rows))].astype(np.int64)
        held = np.unique((np.arange(3)[:, None] * 2 + (signed < 0)) * PLANE + np.abs(signed))
        held = rng.permutation(held)
        ends[k] = rng.integers(0, len(held) + 1)
        counts[k] = rng.integers(0, ends[k] + 1)
        buckets[k, : len(held)] = held
        bits[k] = rng.integers(1, most_bits + 1, 3 * KEPT)
    return DistinctiveBuckets(buckets, bits, counts, ends, int(rng.integers(1, 60)))


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([1, 7, 300]), st.sampled_from([3, 12, 255])
)
@settings(max_examples=25, deadline=None)
def test_both_forms_find_the_same(seed: int, m: int, limit: int, most_bits: int) -> None:
    table, head, _ = index()
    distinctive = random_buckets(seed, m, most_bits=most_bits)
    found = compiled.find_sharers(table, head, distinctive, limit=limit, threads=THREADS)
    wanted = plain.find_sharers(table, head, distinctive, limit=limit, threads=THREADS)
    assert len(found) == len(wanted) == m
    for ours, theirs in zip(found, wanted, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()


def test_of_buckets_in_every_form_the_right_images_are_found() -> None:
    table, head, rows = index()
    distinctive = random_buckets(5, 1)._replace(bar=20)
    image_ids, bits, segments, documents = compiled.find_sharers(
        table, head, distinctive, limit=9, threads=THREADS
    )[0]
    assert len(image_ids) == 9
    number_of = {image_id: row for row, image_id in enumerate(rows.image_ids.tolist())}
    bits_of = dict(zip(distinctive.buckets[0].tolist(), distinctive.bits[0].tolist(), strict=True))
    rare = set(distinctive.buckets[0, : distinctive.counts[0]].tolist())
    every = set(distinctive.buckets[0, : distinctive.ends[0]].tolist())
    for image_id, value, segment, document in zip(
        image_ids.tolist(), bits.tolist(), segments.tolist(), documents.tolist(), strict=True
    ):
        row = number_of[image_id]
        held = set()
        for channel in range(1 if abs(rows.averages[row, 1]) + abs(rows.averages[row, 2]) < 0.006 else 3):
            for position in rows.positions[row, channel].tolist():
                held.add((channel * 2 + (position < 0)) * PLANE + abs(position))
        of_rare = sum(bits_of[bucket] for bucket in held & rare)
        assert of_rare >= 20
        assert value == min(of_rare, MOST_BITS) + sum(bits_of[bucket] for bucket in held & every - rare)
        ids = head.image_ids if segment < 0 else table.segments[segment].image_ids
        assert ids[document] == image_id


def test_an_image_that_holds_all_is_found_with_the_most_bits() -> None:
    table, head, _ = index()
    distinctive = random_buckets(7, 60, most_bits=30)._replace(bar=1)
    found = compiled.find_sharers(table, head, distinctive, limit=1, threads=THREADS)
    most = distinctive.max_bits().tolist()
    bits = [(int(best[1][0]), most[k]) for k, best in enumerate(found) if len(best[0])]
    assert all(of_best <= of_all for of_best, of_all in bits)
    is_whole = [of_best == of_all for of_best, of_all in bits if of_all > MOST_BITS]
    assert len(is_whole) > 20
    assert np.mean(is_whole) > 0.6  # the others died, or are grey
    assert (distinctive.bits.sum(axis=1) > 2 * distinctive.max_bits()).any()


def test_more_signatures_than_usual_and_none_of_them_matters_to_another() -> None:
    table, head, _ = index()
    distinctive = random_buckets(6, 120)._replace(bar=25)
    together = compiled.find_sharers(table, head, distinctive, limit=5, threads=THREADS)
    for k in (0, 63, 64, 119):
        alone = DistinctiveBuckets(*(column[k : k + 1] for column in distinctive[:4]), distinctive.bar)
        one = compiled.find_sharers(table, head, alone, limit=5, threads=THREADS)[0]
        assert [column.tolist() for column in one] == [column.tolist() for column in together[k]]


@pytest.mark.parametrize("form", [compiled, plain])
def test_parameters_out_of_range_are_refused(form: object) -> None:
    table, head, _ = index()
    for limit, bar, m in ((0, 5, 1), (1, 0, 1), (1, 256, 1), (1, 5, 251)):
        distinctive = random_buckets(1, m)._replace(bar=bar)
        with pytest.raises(ValueError, match="out of range"):
            form.find_sharers(table, head, distinctive, limit=limit, threads=THREADS)  # type: ignore[attr-defined]


def test_an_empty_index_shares_nothing() -> None:
    _, head, _ = index()
    none = HeadRows(*(column[:0] for column in head))
    for form in (compiled, plain):
        found = form.find_sharers(
            SegmentTable.create([], []), none, random_buckets(2, 3), limit=4, threads=THREADS
        )
        assert [len(column) for columns in found for column in columns] == [0] * 12
