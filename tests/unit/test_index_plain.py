"""The plain and the compiled form of the index's arithmetic agree exactly, each function by itself."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.index.plain import buckets as plain_buckets
from iqdb_core.index.plain import build as plain_build
from iqdb_core.index.plain import ranking as plain_ranking
from iqdb_core.index.plain import segment as plain_segment
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.ranking import search as ranking
from iqdb_core.index.rows import HeadRows, Rows, stored_averages
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment import buckets, build, colour_order, layout, locate, postings
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.index.simd import words as simd_words
from iqdb_core.model import BUCKETS, is_grey
from tests.fixtures.index_rows import realistic_rows, signature_at

THREADS = QueryThreads(1, 0)


@functools.cache
def images(seed: int, n: int, *, with_repeats: bool = False) -> Rows:
    """Rows that no test changes."""
    rng = np.random.default_rng(seed)
    averages, positions = realistic_rows(rng, n)
    if with_repeats:
        positions = rng.permuted(positions, axis=2)
        positions[::2, :, 7] = positions[::2, :, 30]
    image_ids = np.sort(rng.choice(10 * n, n, replace=False)).astype(np.int64)
    return Rows(image_ids, averages, positions)


@pytest.mark.parametrize("n", [1, 63, 513, 1_025, 9_000])
@pytest.mark.parametrize("with_repeats", [False, True])
def test_segments_are_the_same_words(n: int, with_repeats: bool) -> None:
    rows = images(n, n, with_repeats=with_repeats)
    compiled, plain = build.build_segment(rows), plain_build.build_segment(rows)
    assert (compiled.counts == plain.counts).all()
    assert (compiled.segment.words == plain.segment.words).all()
    forms = {entry >> 30 & 3 for entry in entries_of(compiled.segment.words)}
    assert n < 9_000 or forms == {0, 1, 2}, "exact, grouped and rare buckets all occur"


def entries_of(words: np.ndarray) -> list[int]:
    first = int(words[layout.H_ENTRIES_AT]) * 2
    return words.view(np.uint32)[first : first + int(words[layout.H_ENTRIES])].tolist()


@pytest.mark.parametrize("n", [1, 512, 2_049, 5_000])
def test_slots_are_those_whose_images_hold_the_bucket(n: int) -> None:
    rows = images(n, n, with_repeats=True)
    words = build.build_segment(rows).segment.words
    first = int(words[layout.H_DOCUMENTS_AT]) * 4
    documents = words.view(np.uint16)[first : first + n].astype(np.int64)
    holders, held = plain_buckets.held_buckets(rows.averages, rows.positions)
    for bucket in np.unique(held)[::37].tolist():
        slots = plain_segment.slots_of(words, bucket)
        assert (np.diff(slots) > 0).all()
        assert sorted(documents[slots].tolist()) == holders[held == bucket].tolist()
    assert len(plain_segment.slots_of(words, int(np.setdiff1d(np.arange(BUCKETS), held)[0]))) == 0


@pytest.mark.parametrize("n", [1, 512, 5_000])
def test_every_slot_is_looked_up_alike(n: int) -> None:
    """`is_in_rare` and `is_in_grouped` against the list of all slots."""
    words = build.build_segment(images(n, n)).segment.words
    rng = np.random.default_rng(n)
    for bucket in rng.permutation(BUCKETS)[:6_000].tolist():
        entry = plain_segment.entry_of(words, bucket)
        if entry is None or not entry & (layout.RARE_BIT | layout.GROUPED_BIT):
            continue
        slots = set(plain_segment.slots_of(words, bucket).tolist())
        for slot in [*slots, *rng.integers(0, n, 5).tolist()]:
            if entry & layout.RARE_BIT:
                at = int(words[layout.H_RARE_AT]) * 4 + postings.rare_offset.py_func(entry)
                found = postings.is_in_rare(words, at, postings.rare_count.py_func(entry), slot)
            else:
                at = int(words[layout.H_GROUPED_AT]) + (entry ^ layout.GROUPED_BIT)
                found = postings.is_in_grouped(words, at, slot)
            assert found == (slot in slots)


def test_images_of_one_vector_are_neighbours_in_colour() -> None:
    rows = images(4, 20_000)
    stored = stored_averages(rows.averages)
    are_grey = is_grey(rows.averages[:, 1], rows.averages[:, 2])
    compiled = colour_order.order_by_colour(stored, are_grey)
    plain = plain_build.order_by_colour(stored, are_grey)
    assert (compiled[0] == plain[0]).all()
    assert compiled[1] == plain[1] == are_grey.sum()
    assert sorted(plain[0].tolist()) == list(range(20_000))


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([1, -1]))
def test_images_are_counted_alike(seed: int, n: int, step: int) -> None:
    rows = images(seed % 2, 30, with_repeats=bool(seed % 2))[:n]
    before = np.full(BUCKETS, 2 if step == -1 else 0, dtype=np.int32)
    before[:400] = 0 if step == 1 else 40
    compiled, plain = before.copy(), before.copy()
    crossed = buckets.count_images(compiled, rows.averages, rows.positions, step)
    assert plain_buckets.count_images(plain, rows.averages, rows.positions, step) == crossed or step == -1
    assert (compiled == plain).all()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 20))
def test_checksums_agree(words: list[int], repeats: int) -> None:
    array = np.array(words * (repeats + 1), dtype=np.uint64)
    assert int(simd_words.checksum_words(array)) == plain_segment.checksum_words(array)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_damage_is_noticed_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = build.build_segment(images(5, 1_500)[: int(rng.integers(1, 1_500))]).segment.words.copy()
    damaged = int(rng.integers(layout.HEADER_WORDS, len(words)))
    words[damaged] ^= np.uint64(1) << np.uint64(rng.integers(0, 64))
    arguments = (words.ctypes.data, len(words))
    assert bool(postings.are_postings_valid(*arguments)) == plain_segment.are_postings_valid(*arguments)


def table_of(parts: list[Rows], seed: int) -> SegmentTable:
    rng = np.random.default_rng(seed)
    segments = [build.build_segment(part).segment for part in parts]
    bitmaps = []
    for segment in segments:
        dead = np.flatnonzero(rng.random(segment.n_images) < 0.2)
        bitmaps.append(bitmap.without(bitmap.all_alive(segment.n_images, segment.n_words), dead))
    return SegmentTable.create(segments, bitmaps)


def test_ids_are_found_alike() -> None:
    rows = images(8, 3_000)
    table = table_of([rows[:1_000], rows[1_000:1_001], rows[1_001:]], 1)
    image_ids = np.arange(0, 30_000, 3)
    for compiled, plain in zip(
        locate.locate(table, image_ids), plain_segment.locate(table, image_ids), strict=True
    ):
        assert compiled.dtype == plain.dtype
        assert compiled.tolist() == plain.tolist()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    limit=st.sampled_from([1, 2, 10, 100, 1000]),
    min_score=st.one_of(st.none(), st.floats(-100, 110)),
    is_sketch=st.booleans(),
)
def test_rankings_agree(seed: int, limit: int, min_score: float | None, is_sketch: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = images(1, 4_000, with_repeats=bool(seed % 2))
    rows = Rows(rows.image_ids, rows.averages.copy(), rows.positions.copy())
    rows.averages[rng.random(4_000) < 0.1] = rows.averages[0]
    rows.positions[rng.random(4_000) < 0.1] = rows.positions[0]
    part = rows[3_900:]
    head = HeadRows(part.image_ids, part.averages, part.positions, rng.random(100) < 0.8)
    table = table_of([rows[:2_500], rows[2_500:2_600], rows[2_600:3_900]], seed)
    nonempty = rng.random(BUCKETS) < rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.3, 0.6])
    query = signature_at(rows.averages, rows.positions, int(rng.integers(0, 4_000)))
    arguments = {"limit": limit, "min_score": min_score, "nonempty": nonempty, "threads": THREADS}
    arguments["is_sketch"] = is_sketch
    compiled = ranking.search(table, head, query, **arguments)
    plain = plain_ranking.search(table, head, query, **arguments)
    assert [column.dtype for column in compiled] == [column.dtype for column in plain]
    assert [column.tolist() for column in compiled] == [column.tolist() for column in plain]
