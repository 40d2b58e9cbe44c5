"""A write that is done only where no image has its id, on SQLite and Postgres alike."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from iqdb_core.model import Write, WriteOutcome
from tests.fixtures.stores import all_changes, delete, live_images, put, signature
from tests.naive_store import NaiveStore

if TYPE_CHECKING:
    from iqdb_core.store import SignatureStore


def claim(image_id: int, revision: int, number: int | None = None, source: str | None = None) -> Write:
    """Return a write that is not to replace an image."""
    return replace(put(image_id, revision, number), if_absent=True, source=source)


DONE = WriteOutcome(1, is_stale=False)


def test_a_free_id_is_given(store: SignatureStore) -> None:
    assert store.apply([claim(7, 100, source="mine")]) == [DONE]
    assert store.get(7) == signature(100)
    assert store.sources_of([7]) == {7: "mine"}


@pytest.mark.parametrize("revision", [99, 100, 101])
def test_an_image_that_is_there_stays_with_its_source(store: SignatureStore, revision: int) -> None:
    """Whether it was accepted before or after; the same microsecond of another process is no repetition."""
    store.apply([replace(put(7, 100), source="theirs")])
    before = all_changes(store)
    outcomes, changes = store.apply_and_read([claim(7, revision, 500, source="mine")])
    assert outcomes == [WriteOutcome(1, is_stale=False, is_taken=True)]
    assert len(changes) == 0
    assert (all_changes(store), store.sources_of([7])) == (before, {7: "theirs"})
    assert store.max_revision() == 100


def test_a_deleted_image_leaves_its_id_free(store: SignatureStore) -> None:
    store.apply([put(7, 100), delete(7, 101)])
    assert store.apply([claim(7, 102)]) == [WriteOutcome(2, is_stale=False)]
    assert store.get(7) == signature(102)


def test_a_deletion_that_was_accepted_later_stays(store: SignatureStore) -> None:
    store.apply([delete(7, 101)])
    assert store.apply([claim(7, 100)]) == [WriteOutcome(1, is_stale=True)]
    assert live_images(store) == {}


def test_the_same_write_once_more_is_done(store: SignatureStore) -> None:
    """As by a worker that committed and died before it could say so."""
    writes = [claim(7, 100, source="mine"), claim(8, 101)]
    first = store.apply(writes)
    assert store.apply(writes) == [replace(outcome, is_stale=True) for outcome in first]
    assert not any(outcome.is_taken for outcome in first)


def test_of_two_in_one_group_the_first_has_it(store: SignatureStore) -> None:
    outcomes = store.apply([claim(7, 102, source="second"), claim(7, 101, source="first"), claim(8, 103)])
    assert [outcome.is_taken for outcome in outcomes] == [True, False, False]
    assert (store.get(7), store.sources_of([7])) == (signature(101), {7: "first"})
    assert store.live_count() == 2


def test_the_order_of_a_group_is_that_of_its_revisions(store: SignatureStore) -> None:
    assert [one.is_taken for one in store.apply([put(1, 10), claim(1, 11)])] == [False, True]
    assert [one.is_taken for one in store.apply([claim(2, 10), put(2, 11)])] == [False, False]
    assert [one.is_taken for one in store.apply([put(3, 10), delete(3, 11), claim(3, 12)])] == [False] * 3
    assert [one.is_taken for one in store.apply([delete(1, 20), claim(1, 21)])] == [False, False]
    assert live_images(store) == {1: signature(21), 2: signature(11), 3: signature(12)}


def test_a_deletion_takes_no_notice(store: SignatureStore) -> None:
    store.apply([put(7, 100)])
    assert store.apply([replace(delete(7, 101), if_absent=True)]) == [WriteOutcome(2, is_stale=False)]


def test_of_many_at_once_each_id_has_one_winner(store: SignatureStore) -> None:
    ids = range(20)

    def one(adder: int) -> list[WriteOutcome]:
        return [store.apply([claim(image_id, 1000 * adder + image_id)])[0] for image_id in ids]

    with ThreadPoolExecutor(4) as pool:
        adders = list(pool.map(one, range(1, 5)))
    for image_id in ids:
        (winner,) = [number for number, told in enumerate(adders, 1) if not told[image_id].is_taken]
        assert store.get(image_id) == signature(1000 * winner + image_id)
    assert store.head_seq() == len(ids)


@pytest.mark.parametrize("seed", range(8))
def test_any_writes_agree_with_the_naive_store(store: SignatureStore, seed: int) -> None:
    rng, naive = random.Random(seed), NaiveStore()
    for _ in range(30):
        writes = [
            Write(
                rng.randrange(4),
                rng.randrange(1, 40),
                signature(rng.randrange(3)) if rng.random() < 0.7 else None,
                rng.choice([None, "", "a", "b"]),
                rng.random() < 0.5,
            )
            for _ in range(rng.randrange(1, 6))
        ]
        assert store.apply(writes) == naive.apply(writes)
        assert all_changes(store) == naive.changes_since(0, 10**9)
        assert store.sources_of(list(naive.latest)) == naive.sources
        assert store.live_count() == len(naive.live())
