"""Groups of duplicates against a plain search for connected images, where finding has a direction."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iqdb_core.duplicates import MOST_PAIRED, Found, Group, GroupWalk, Near, Search

Edges = dict[tuple[int, int], float]
"""How likely the first image finds the second."""

IDS = range(12)
some_edges = st.dictionaries(
    st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)), st.floats(0.5, 1), max_size=60
)


def search(edges: Edges, asked: list[int] | None = None) -> Search:
    def copies_of(image_id: int) -> Found:
        if asked is not None:
            asked.append(image_id)
        return {
            other: Near(other, likelihood, 100 * likelihood)
            for (one, other), likelihood in edges.items()
            if one == image_id
        }

    return copies_of


def both_ways(pairs: Edges) -> Edges:
    return pairs | {(second, first): likelihood for (first, second), likelihood in pairs.items()}


def naive_pairs(edges: Edges) -> Edges:
    """Return the pairs that find each other, the smaller id first, with the larger likelihood."""
    return {
        (first, second): max(likelihood, edges[second, first])
        for (first, second), likelihood in edges.items()
        if first < second and (second, first) in edges
    }


def naive_groups(pairs: Edges) -> list[tuple[int, ...]]:
    """Join images until nothing changes any more."""
    group_of = {image_id: {image_id} for image_id in IDS}
    for first, second in pairs:
        joined = group_of[first] | group_of[second]
        for member in joined:
            group_of[member] = joined
    return sorted({tuple(sorted(group)) for group in group_of.values() if len(group) > 1})


def told(edges: Edges, *, size: int = len(IDS), max_group: int = 1000) -> list[Group]:
    """Return what walks tell that begin anew every `size` images."""
    groups = []
    for start in range(0, len(IDS), size):
        walk = GroupWalk(search(edges), max_group=max_group)
        groups += [walk.group_at(image_id) for image_id in IDS[start : start + size]]
    return [group for group in groups if group is not None]


def late_after(questions: int) -> Callable[[], bool]:
    left = itertools.count(questions, -1)
    return lambda: next(left) <= 0


def is_partition(groups: Sequence[Group]) -> bool:
    members = [image_id for group in groups for image_id in group.image_ids]
    return len(members) == len(set(members))


@given(some_edges, st.integers(1, len(IDS)))
@example({(5, 7): 0.9, (7, 5): 0.9, (7, 3): 0.9}, 12)
@example({(5, 7): 0.9, (7, 5): 0.9, (7, 3): 0.9}, 1)
def test_groups_are_the_images_that_find_each_other(edges: Edges, size: int) -> None:
    groups = told(edges, size=size)
    pairs = naive_pairs(edges)
    assert [group.image_ids for group in groups] == naive_groups(pairs)
    assert all(group.is_whole for group in groups)
    assert [
        ((pair.first, pair.second), pair.likelihood)
        for pair in sorted(
            itertools.chain.from_iterable(group.pairs for group in groups),
            key=lambda pair: (pair.first, pair.second),
        )
    ] == sorted(pairs.items())


@pytest.mark.parametrize(
    ("found", "groups"),
    [
        ({1: [2], 2: []}, []),
        ({1: [], 2: [1]}, []),
        ({5: [7], 7: [5, 3], 3: []}, [(5, 7)]),
        # What only one of them finds joins no groups, and puts no image into two.
        ({1: [2], 2: [1], 3: [4, 2], 4: [3]}, [(1, 2), (3, 4)]),
        ({1: [], 2: [1, 3], 3: [2, 1], 4: [1]}, [(2, 3)]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 12])
def test_images_that_do_not_find_each_other_both_ways_are_no_pair(
    found: dict[int, list[int]], groups: list[tuple[int, ...]], size: int
) -> None:
    edges = {(one, other): 0.9 for one, others in found.items() for other in others}
    assert [group.image_ids for group in told(edges, size=size)] == groups


@given(some_edges, st.integers(1, len(IDS)), st.integers(2, 5))
def test_too_large_groups_are_split_without_overlap(edges: Edges, size: int, max_group: int) -> None:
    groups = told(edges, size=size, max_group=max_group)
    assert groups == told(edges, max_group=max_group), "pages change nothing"
    assert is_partition(groups)
    whole = naive_groups(naive_pairs(edges))
    assert [group.image_ids for group in groups if group.is_whole] == [
        group for group in whole if len(group) <= max_group
    ]
    for group in groups:
        [around] = [images for images in whole if set(group.image_ids) <= set(images)]
        assert group.is_whole == (group.image_ids == around)
        assert len(group.image_ids) <= max_group
    for images in whole:
        assert images[0] in {group.image_ids[0] for group in groups}


@given(some_edges, st.lists(st.integers(0, 8), min_size=12, max_size=12))
def test_parts_cut_by_time_do_not_overlap(edges: Edges, looks: list[int]) -> None:
    """Each image has time for some questions of its own, and begins a page that remembers nothing."""
    whole = naive_groups(naive_pairs(edges))
    groups, parts = [], []
    for image_id, most in zip(IDS, looks, strict=True):
        walk = GroupWalk(search(edges), is_late=late_after(most))
        group = walk.group_at(image_id)
        if group is not None:
            assert group.is_whole or walk.is_cut
            assert group.image_ids[0] == image_id
            [around] = [images for images in whole if set(group.image_ids) <= set(images)]
            assert not group.is_whole or group.image_ids == around
            groups.append(group)
            parts += [] if group.is_whole else [group]
    assert is_partition(parts)
    assert is_partition([group for group in groups if group.is_whole])


def test_a_walk_that_is_late_asks_no_more() -> None:
    edges = both_ways(dict.fromkeys(itertools.combinations(IDS, 2), 0.9))
    asked: list[int] = []
    walk = GroupWalk(search(edges, asked), is_late=lambda: len(asked) >= 4)
    group = walk.group_at(0)
    assert group is not None
    assert (group.image_ids, group.is_whole, walk.is_cut) == ((0, 1, 2, 3), False, True)
    assert len(group.pairs) == 6
    assert len(asked) == 4


def test_every_image_is_asked_for_once() -> None:
    asked: list[int] = []
    walk = GroupWalk(search(both_ways(dict.fromkeys(itertools.combinations(range(6), 2), 0.9)), asked))
    for image_id in IDS:
        walk.group_at(image_id)
    assert sorted(asked) == list(IDS)


def test_a_group_has_a_largest_size() -> None:
    groups = told(both_ways({(number, number + 1): 0.9 for number in range(11)}), max_group=4)
    assert [(group.image_ids, group.is_whole, len(group.pairs)) for group in groups] == [
        ((0, 1, 2, 3), False, 3),
    ]


def test_a_large_group_has_the_most_likely_pair_of_each_image() -> None:
    size = MOST_PAIRED + 10
    edges = both_ways(dict.fromkeys(itertools.combinations(range(size), 2), 0.9))
    edges[9, 5] = 0.95
    group = GroupWalk(search(edges)).group_at(0)
    assert group is not None
    assert group.image_ids == tuple(range(size))
    assert group.is_whole
    assert {pair.first for pair in group.pairs} | {pair.second for pair in group.pairs} == set(range(size))
    assert (5, 9, 0.95) in [(pair.first, pair.second, pair.likelihood) for pair in group.pairs]
    assert len(group.pairs) < size
