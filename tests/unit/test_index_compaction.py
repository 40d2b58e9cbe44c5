"""Which segments are merged: nothing without need, never for ever, and the result is tidy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.index.options import IndexOptions
from iqdb_core.index.segment.layout import SEGMENT_IMAGES
from iqdb_core.index.upkeep.compaction import choose, is_overdue

DEFAULT = IndexOptions()


@dataclass(eq=False)
class Counts:
    """As much of a member as the policy looks at."""

    n_images: int
    n_alive: int

    @property
    def n_dead(self) -> int:
        return self.n_images - self.n_alive


def members(*counts: int | tuple[int, int]) -> list[Any]:
    return [Counts(*(count if isinstance(count, tuple) else (count, count))) for count in counts]


def merge_all(listed: list[Any], options: IndexOptions) -> tuple[list[Any], int]:
    """Merge as the index does until nothing is chosen; return what is left and how many merges it took."""
    for merges in range(10_000):
        chosen = choose(listed, options)
        if not chosen:
            return listed, merges
        rest = [member for member in listed if member not in chosen]
        n_alive = sum(member.n_alive for member in chosen)
        full, remainder = divmod(n_alive, SEGMENT_IMAGES)
        listed = rest + members(*[SEGMENT_IMAGES] * full, *[remainder] * (remainder > 0))
    raise AssertionError("merging does not end")


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [1],
        [65_536] * 100,
        [1_024] * 7,
        [8_192] * 7,
        [8_192] * 7 + [1_024] * 7,
        [(65_536, 59_000)] * 10,
    ],
)
def test_a_compact_index_needs_no_merge(counts: list[Any]) -> None:
    assert choose(members(*counts), DEFAULT) == []


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ([65_536, (1_024, 0)], [1]),
        ([1_024] * 8 + [65_536], list(range(8))),
        ([8_192] * 8 + [1_024] * 3, list(range(8))),
        ([65_536, (65_536, 52_000), (65_536, 50_000)], [2]),
        ([40_000, 30_000, 8_192], [0, 1]),
    ],
)
def test_the_segments_to_merge(counts: list[Any], chosen: list[int]) -> None:
    listed = members(*counts)
    assert set(map(id, choose(listed, DEFAULT))) == {id(listed[number]) for number in chosen}


sizes = st.one_of(
    st.integers(1, 2_000), st.integers(1, SEGMENT_IMAGES), st.sampled_from([1_024, 8_192, SEGMENT_IMAGES])
)


@given(
    st.lists(st.tuples(sizes, st.floats(0, 1)), max_size=80),
    st.sampled_from([1, 8, 1_024, 65_536]),
    st.integers(2, 16),
    st.floats(0.05, 1),
)
def test_merging_ends_and_leaves_few_small_segments_and_few_dead(
    drawn: list[tuple[int, float]], capacity: int, fan_out: int, max_dead_share: float
) -> None:
    options = IndexOptions(head_capacity=capacity, merge_fan_out=fan_out, max_dead_share=max_dead_share)
    listed = members(*[(n_images, round(n_images * share)) for n_images, share in drawn])
    n_alive = sum(member.n_alive for member in listed)
    left, merges = merge_all(listed, options)
    assert sum(member.n_alive for member in left) == n_alive
    assert all(member.n_alive > 0 for member in left)
    assert all(member.n_dead <= max_dead_share * member.n_images for member in left)
    unfilled = [member for member in left if member.n_alive < SEGMENT_IMAGES * 3 // 4]
    assert len(unfilled) < fan_out * 17
    assert merges <= 2 * len(listed) + 2


@given(
    st.lists(st.tuples(sizes, st.floats(0, 1)), max_size=80),
    st.sampled_from([1, 8, 1_024, 65_536]),
    st.integers(2, 16),
    st.floats(0.05, 1),
)
def test_tidy_index_is_never_overdue(
    drawn: list[tuple[int, float]], capacity: int, fan_out: int, max_dead_share: float
) -> None:
    """Otherwise updates would wait for a merge that never comes."""
    options = IndexOptions(head_capacity=capacity, merge_fan_out=fan_out, max_dead_share=max_dead_share)
    listed = members(*[(n_images, round(n_images * share)) for n_images, share in drawn])
    assert not is_overdue(merge_all(listed, options)[0], options)


def test_when_merging_is_overdue() -> None:
    assert not is_overdue([], DEFAULT)
    assert is_overdue(members(*[(65_536, 50_000)] * 20), DEFAULT)
    assert is_overdue(members(*[1_024] * 50), DEFAULT)
    assert not is_overdue(members(*[1_024] * 20, *[65_536] * 200), DEFAULT)


def test_steady_growth_rewrites_an_image_about_twice() -> None:
    listed: list[Any] = []
    written = 0
    for _ in range(256):
        listed = listed + members(DEFAULT.head_capacity)
        while chosen := choose(listed, DEFAULT):
            n_alive = sum(member.n_alive for member in chosen)
            written += n_alive
            listed = [member for member in listed if member not in chosen]
            full, remainder = divmod(n_alive, SEGMENT_IMAGES)
            listed += members(*[SEGMENT_IMAGES] * full, *[remainder] * (remainder > 0))
    assert written <= 2.2 * 256 * DEFAULT.head_capacity
    assert [member.n_alive for member in listed] == [SEGMENT_IMAGES] * 4
