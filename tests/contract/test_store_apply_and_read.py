"""What a commit tells of itself is what the feed tells of it, on SQLite and Postgres alike."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.errors import InvalidImageId
from iqdb_core.model import MAX_IMAGE_ID, Write
from iqdb_core.store import SignatureStore, open_store
from tests.fixtures.stores import delete, put, signature

if TYPE_CHECKING:
    from iqdb_core.model import ChangeBatch

groups = st.lists(
    st.lists(
        st.builds(
            lambda image_id, revision, is_put: (put if is_put else delete)(image_id, revision),
            st.integers(0, 5),
            st.integers(1, 30),
            st.booleans(),
        ),
        max_size=6,
    ),
    max_size=6,
)


def equal(one: ChangeBatch, other: ChangeBatch) -> bool:
    columns = ("seqs", "image_ids", "is_live", "averages", "positions")
    are_same = [
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in columns
    ]
    return all(are_same) and one.feed == other.feed


def check(store: SignatureStore, writes: list[Write]) -> None:
    before = store.head_seq()
    outcomes, batch = store.apply_and_read(writes)
    assert equal(batch, store.changes_since(before, 10**6))
    assert len(outcomes) == len(writes)
    again, nothing = store.apply_and_read(writes)
    assert len(nothing) == 0
    assert all(outcome.is_stale for outcome in again)


@settings(max_examples=40, deadline=None)
@given(groups)
def test_it_is_what_the_feed_tells(writes: list[list[Write]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "store.sqlite"))
        for group in writes:
            check(store, group)
        store.close()


def test_it_is_what_the_feed_tells_on_both(store: SignatureStore, store_url: str) -> None:
    check(store, [put(1, 1), put(2, 2), delete(3, 3)])
    check(store, [put(1, 4), put(1, 5), delete(2, 6), put(4, 7), put(5, 1)])
    check(store, [delete(1, 8)])
    check(store, [Write(9, 9, signature(9), source="here"), Write(9, 8, signature(8))])
    check(store, [])
    other = open_store(store_url)
    other.apply([put(1, 10)])  # a mark of another writer in between
    check(store, [put(6, 11)])
    other.close()
    check(store, [put(number, 12 + number) for number in range(10, 5000)])  # and one that is due


def test_averages_are_as_the_database_holds_them(store: SignatureStore) -> None:
    positions = signature(1).positions
    for image_id, averages in enumerate([(-0.0, 5e-324, 1.7e308), (0.1, -0.25, 1 / 3)]):
        check(store, [Write(image_id, 1, type(signature(1))(averages, positions))])


def test_what_is_refused_changes_nothing(store: SignatureStore) -> None:
    with pytest.raises(InvalidImageId):
        store.apply_and_read([put(1, 1), put(-1, 2)])
    assert store.head_seq() == 0


def test_what_is_counted_of_images_is_what_the_database_counts_of_them(store: SignatureStore) -> None:
    """Of small and large ids alike: SQL and Python compute the same fingerprint."""
    ids = [0, 1, 2**24 - 1, 2**24 + 5, 2**32 - 1, 2**32 + 7, 2**40 + 3, MAX_IMAGE_ID]
    store.apply([put(image_id, 1 + number) for number, image_id in enumerate(ids)])
    store.apply([delete(1, 100), put(9, 101)])
    with store._backend.reading() as connection:
        counter = store._backend.counter(connection)
        assert store._backend.fingerprint(connection) == (counter.image_rows, counter.image_mix)
