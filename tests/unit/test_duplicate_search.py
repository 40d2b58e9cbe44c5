"""Duplicates by the index's own search: also of a picture that is there hundreds of times."""

from __future__ import annotations

import functools

import pytest

from api.search.duplicates import (
    MOST_NEAR,
    PAGE_IMAGES,
    DuplicatesWanted,
    find_duplicates,
    page_body,
    page_of,
)
from iqdb_core.duplicates import MAX_GROUP, Group
from iqdb_core.index import ImageIndex
from iqdb_core.model import Signature
from iqdb_core.signature import from_image_bytes
from iqdb_core.store.columns import to_batch
from tests.fixtures.noise import noise_png


@functools.cache
def pictures() -> list[Signature]:
    return [from_image_bytes(noise_png(seed)) for seed in range(200)]


def groups(copies: int, *, after: int = -1) -> list[Group]:
    """Return what a walk finds among 200 pictures, the first of which is there `copies` more times."""
    images = pictures() + [pictures()[0]] * copies
    with ImageIndex.open(None, store_id="duplicates") as index:
        index.apply(
            to_batch(
                [(k + 1, k, *image.averages, image.positions) for k, image in enumerate(images)],
            )
        )
        found: list[Group] = []
        wanted: int | None = after
        while wanted is not None:
            ids = range(wanted + 1, min(len(images), wanted + 1 + PAGE_IMAGES))
            told = find_duplicates(index, DuplicatesWanted(wanted, min_detail=1.0), ids)
            page = page_of(page_body(told))
            found += page.groups
            wanted = page.next_after
        return found


@pytest.mark.parametrize("copies", [1, MOST_NEAR - 1, MOST_NEAR, 3 * MOST_NEAR])
def test_every_copy_is_in_the_group(copies: int) -> None:
    [group] = groups(copies)
    assert group.image_ids == (0, *range(200, 200 + copies))
    assert group.is_whole
    members = {pair.first for pair in group.pairs} | {pair.second for pair in group.pairs}
    assert members == set(group.image_ids)
    assert groups(copies, after=0) == [], "it was told at its smallest id"


def test_a_group_that_is_not_told_whole_says_so() -> None:
    [group] = groups(MAX_GROUP + 200)
    assert len(group.image_ids) == MAX_GROUP
    assert not group.is_whole
