"""Where images come from: kept beside them, on SQLite and Postgres alike."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import InvalidSource
from iqdb_core.model import MAX_IMAGE_ID, Write
from iqdb_core.store import open_store
from iqdb_core.store.migrate import copy_store
from tests.fixtures.stores import IqdbFile, delete, put, signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iqdb_core.store import SignatureStore


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SignatureStore]:
    with closing(open_store(str(tmp_path / "store.sqlite"))) as store:
        yield store


def put_from(image_id: int, revision: int, source: str | None) -> Write:
    return Write(image_id, revision, signature(revision), source)


def test_a_source_comes_with_its_image_and_goes_with_it(store: SignatureStore) -> None:
    store.apply(
        [put_from(1, 1, "cats/1.jpg"), put_from(2, 2, None), put_from(MAX_IMAGE_ID, 3, "\U0001f431 é")]
    )
    found = store.sources_of([1, 2, 3, -1, MAX_IMAGE_ID, MAX_IMAGE_ID + 1])
    assert found == {1: "cats/1.jpg", MAX_IMAGE_ID: "\U0001f431 é"}
    assert store.sources_of([]) == {}
    store.apply([delete(1, 4)])
    assert store.sources_of([1]) == {}
    store.apply([put(1, 5)])
    assert store.sources_of([1]) == {}


def test_a_new_picture_keeps_the_source_unless_told_otherwise(store: SignatureStore) -> None:
    store.apply([put_from(1, 1, "old"), put_from(2, 2, "old"), put_from(3, 3, "old")])
    store.apply([put_from(1, 4, None), put_from(2, 5, "new"), put_from(3, 6, "")])
    assert store.sources_of([1, 2, 3]) == {1: "old", 2: "new"}


def test_within_one_batch_the_order_is_that_of_revisions(store: SignatureStore) -> None:
    store.apply([put_from(1, 2, None), put_from(1, 1, "first")])
    store.apply([put_from(2, 1, "first"), delete(2, 2), put_from(2, 3, None)])
    store.apply([put_from(3, 9, "newer"), put_from(3, 8, "stale")])
    assert store.sources_of([1, 2, 3]) == {1: "first", 3: "newer"}


@pytest.mark.parametrize("kinds", [*itertools.product((None, "", "new", "deleted"), repeat=3)])
def test_one_batch_does_what_its_writes_do_one_by_one(
    sqlite_store: SignatureStore, kinds: tuple[str | None, ...]
) -> None:
    """For an image that has a source: put without one, with an empty one, with another, or deleted."""
    together, apart = (
        [put_from(image_id, 1, "old")]
        + [
            delete(image_id, turn) if kind == "deleted" else put_from(image_id, turn, kind)
            for turn, kind in enumerate(kinds, 2)
        ]
        for image_id in (1, 2)
    )
    sqlite_store.apply(together[:1])
    sqlite_store.apply(together[:0:-1])
    for write in apart:
        sqlite_store.apply([write])
    found = sqlite_store.sources_of([1, 2])
    assert found.get(1) == found.get(2)


def test_thousands_at_once(store: SignatureStore) -> None:
    store.apply([put_from(number, number + 1, f"source {number}") for number in range(1700)])
    assert store.sources_of(range(1700)) == {number: f"source {number}" for number in range(1700)}
    store.apply([put_from(number, number + 2, "") for number in range(1700)])
    assert store.sources_of(range(1700)) == {}


@pytest.mark.parametrize("bad", ["x" * 2001, "a\0b", "\ud800"])
def test_what_is_no_source_is_refused_before_anything_is_written(store: SignatureStore, bad: str) -> None:
    store.apply([put(1, 1)])
    with pytest.raises(InvalidSource):
        store.apply([put(2, 2), put_from(3, 3, bad)])
    assert store.head_seq() == 1
    assert store.sources_of([1, 2, 3]) == {}
    store.apply([put_from(4, 4, "x" * 2000)])
    assert store.sources_of([4]) == {4: "x" * 2000}


def test_a_copy_has_the_sources(store: SignatureStore, store_url: str, tmp_path: Path) -> None:
    store.apply([put_from(1, 1, "one"), put(2, 2), put_from(3, 3, "three"), delete(3, 4)])
    target = str(tmp_path / "copy.sqlite")
    copy_store(store_url, target)
    copied = open_store(target)
    assert copied.sources_of([1, 2, 3]) == {1: "one"}
    copied.close()


def test_what_iqdb_removed_has_no_source_left(tmp_path: Path) -> None:
    path = tmp_path / "iqdb.sqlite"
    store = open_store(str(path))
    store.apply([put_from(1, 1, "one"), put_from(2, 2, "two")])
    store.close()
    IqdbFile(path).remove(1)
    IqdbFile(path).replace(2, signature(9))
    store = open_store(str(path))
    assert store.sources_of([1, 2]) == {2: "two"}
    IqdbFile(path).add(1, signature(1))
    store.close()
    store = open_store(str(path))
    assert store.sources_of([1, 2]) == {2: "two"}
    store.close()
