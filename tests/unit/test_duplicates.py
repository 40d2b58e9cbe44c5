"""Groups of duplicates against a plain search for connected images."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.duplicates import MOST_PAIRED, Group, Near, groups_of

Edges = dict[tuple[int, int], float]


def naive_groups(ids: list[int], edges: Edges) -> list[tuple[int, ...]]:
    """Join images until nothing changes any more."""
    group_of = {image_id: {image_id} for image_id in ids}
    for first, second in edges:
        joined = group_of[first] | group_of[second]
        for member in joined:
            group_of[member] = joined
    groups = {tuple(sorted(group)) for group in group_of.values() if len(group) > 1}
    return sorted(groups)


def search(edges: Edges, asked: list[int] | None = None) -> object:
    def copies_of(image_id: int) -> list[Near]:
        if asked is not None:
            asked.append(image_id)
        return [
            Near(second if first == image_id else first, likelihood, 100 * likelihood)
            for (first, second), likelihood in edges.items()
            if image_id in {first, second}
        ]

    return copies_of


IDS = list(range(12))
some_edges = st.dictionaries(
    st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).filter(lambda pair: pair[0] < pair[1]),
    st.floats(0.5, 1),
    max_size=20,
)


@given(some_edges)
def test_groups_are_the_connected_images(edges: Edges) -> None:
    found = list(groups_of(IDS, search(edges)))  # type: ignore[arg-type]
    assert [group.image_ids for group in found] == naive_groups(IDS, edges)
    pairs = [(pair.first, pair.second, pair.likelihood) for group in found for pair in group.pairs]
    assert sorted(pairs) == sorted((first, second, value) for (first, second), value in edges.items())


@given(some_edges, st.integers(1, 5))
def test_pages_tell_the_same_as_one_walk(edges: Edges, size: int) -> None:
    pages = [IDS[start : start + size] for start in range(0, len(IDS), size)]
    paged = [group for page in pages for group in groups_of(page, search(edges))]  # type: ignore[arg-type]
    assert paged == list(groups_of(IDS, search(edges)))  # type: ignore[arg-type]


def test_every_image_is_asked_for_once() -> None:
    edges = {(first, second): 0.9 for first in range(6) for second in range(first + 1, 6)}
    asked: list[int] = []
    list(groups_of(IDS, search(edges, asked)))  # type: ignore[arg-type]
    assert sorted(asked) == IDS


def test_a_group_has_a_largest_size() -> None:
    chain = {(number, number + 1): 0.9 for number in range(11)}
    groups = list(groups_of([0], search(chain), max_group=4))  # type: ignore[arg-type]
    assert groups == [
        Group((0, 1, 2, 3), tuple(pair for pair in groups[0].pairs), is_whole=False),
    ]
    assert len(groups[0].pairs) == 3


def test_a_large_group_is_told_with_the_likeliest_pair_of_each() -> None:
    size = MOST_PAIRED + 10
    edges = {(first, second): 0.9 for first in range(size) for second in range(first + 1, size)}
    edges[5, 9] = 0.95
    [group] = groups_of(range(size), search(edges))  # type: ignore[arg-type]
    assert group.image_ids == tuple(range(size))
    assert group.is_whole
    assert {pair.first for pair in group.pairs} | {pair.second for pair in group.pairs} == set(range(size))
    assert (5, 9, 0.95) in [(pair.first, pair.second, pair.likelihood) for pair in group.pairs]
    assert len(group.pairs) < size
