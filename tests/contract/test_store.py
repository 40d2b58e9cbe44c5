"""What a store promises, on SQLite and Postgres alike."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from iqdb_core.errors import InvalidHash, InvalidImageId, StoreUnavailable, UnknownImage
from iqdb_core.model import MAX_IMAGE_ID, Signature, Write, WriteOutcome
from iqdb_core.store import SignatureStore, StoreTimeouts, open_store
from iqdb_core.store.databases import postgres
from iqdb_core.store.writing import apply_writes
from tests.fixtures.stores import all_changes, delete, live_images, put, signature
from tests.naive_store import NaiveStore, as_changes

if TYPE_CHECKING:
    from collections.abc import Sequence


def agree(store: SignatureStore, naive: NaiveStore) -> None:
    assert all_changes(store) == naive.changes_since(0, 10**9)
    assert store.head_seq() == naive.head_seq
    assert store.live_count() == len(naive.live())
    assert store.max_revision() == max((write.revision for write in naive.latest.values()), default=0)
    for image_id, write in naive.latest.items():
        if write.signature is None:
            with pytest.raises(UnknownImage):
                store.get(image_id)
        else:
            assert store.get(image_id) == write.signature


def apply_to_both(store: SignatureStore, naive: NaiveStore, writes: Sequence[Write]) -> None:
    assert store.apply(writes) == naive.apply(writes)


def test_a_new_store_is_empty(store: SignatureStore) -> None:
    agree(store, NaiveStore())
    assert len(store.changes_since(0, 10)) == 0


def test_what_is_put_can_be_got(store: SignatureStore) -> None:
    assert store.apply([put(7, 100)]) == [WriteOutcome(seq=1, is_stale=False)]
    assert store.get(7) == signature(100)
    assert (store.live_count(), store.head_seq(), store.max_revision()) == (1, 1, 100)


def test_an_unknown_image_is_said_to_be_unknown(store: SignatureStore) -> None:
    for image_id in (7, -1, MAX_IMAGE_ID + 1):
        with pytest.raises(UnknownImage):
            store.get(image_id)


def test_a_new_put_replaces_the_old(store: SignatureStore) -> None:
    store.apply([put(7, 100), put(8, 101)])
    assert store.apply([put(7, 102)]) == [WriteOutcome(seq=3, is_stale=False)]
    assert all_changes(store) == [(2, 8, signature(101)), (3, 7, signature(102))]
    assert store.live_count() == 2


def test_a_delete_leaves_a_tombstone_in_the_feed(store: SignatureStore) -> None:
    store.apply([put(7, 100), put(8, 101)])
    assert store.apply([delete(7, 102)]) == [WriteOutcome(seq=3, is_stale=False)]
    with pytest.raises(UnknownImage):
        store.get(7)
    assert all_changes(store) == [(2, 8, signature(101)), (3, 7, None)]
    assert store.live_count() == 1


def test_an_image_can_come_back(store: SignatureStore) -> None:
    store.apply([put(7, 100)])
    store.apply([delete(7, 101)])
    store.apply([put(7, 102)])
    assert all_changes(store) == [(3, 7, signature(102))]
    assert store.get(7) == signature(102)


def test_an_add_accepted_before_a_delete_stays_dead_however_late_it_comes(store: SignatureStore) -> None:
    # The delete is the first the store hears of this image: it must leave a tombstone all the same.
    assert store.apply([delete(7, 101)]) == [WriteOutcome(seq=1, is_stale=False)]
    assert store.apply([put(7, 100)]) == [WriteOutcome(seq=1, is_stale=True)]
    with pytest.raises(UnknownImage):
        store.get(7)
    assert all_changes(store) == [(1, 7, None)]


def test_a_stale_write_changes_nothing_and_names_the_newer_seq(store: SignatureStore) -> None:
    store.apply([put(7, 100), put(8, 200)])
    assert store.apply([put(8, 150), delete(8, 199), put(7, 99)]) == [
        WriteOutcome(seq=2, is_stale=True),
        WriteOutcome(seq=2, is_stale=True),
        WriteOutcome(seq=1, is_stale=True),
    ]
    assert all_changes(store) == [(1, 7, signature(100)), (2, 8, signature(200))]
    assert (store.head_seq(), store.max_revision()) == (2, 200)


def test_a_redelivered_task_is_stale_and_harmless(store: SignatureStore) -> None:
    writes = [put(7, 100), delete(8, 101), put(9, 102)]
    first = store.apply(writes)
    again = store.apply(writes)
    assert again == [replace(outcome, is_stale=True) for outcome in first]
    assert [outcome.is_again for outcome in first + again] == [False] * 3 + [True] * 3
    assert store.head_seq() == 3


def test_repeated_ids_in_one_batch_take_effect_in_the_order_of_revisions(store: SignatureStore) -> None:
    naive = NaiveStore()
    batches = [
        [put(1, 12), delete(1, 11), put(2, 10), put(1, 10)],
        [delete(1, 13), put(1, 14), put(1, 14, 99), delete(2, 9), put(3, 15)],
        [put(1, 20), delete(1, 21), put(3, 16), put(3, 18), put(3, 17)],
    ]
    for batch in batches:
        apply_to_both(store, naive, batch)
        agree(store, naive)
    assert naive.live().keys() == {2, 3}


def test_the_first_of_two_equal_revisions_wins(store: SignatureStore) -> None:
    outcomes = store.apply([put(1, 5, 50), put(1, 5, 51)])
    assert outcomes == [WriteOutcome(1, is_stale=False), WriteOutcome(1, is_stale=True)]
    assert store.get(1) == signature(50)


def test_the_smallest_and_the_largest_id_are_ids(store: SignatureStore) -> None:
    store.apply([put(0, 1), put(MAX_IMAGE_ID, MAX_IMAGE_ID, 2)])
    assert store.get(0) == signature(1)
    assert store.get(MAX_IMAGE_ID) == signature(2)
    batch = store.changes_since(0, 10)
    assert batch.image_ids.tolist() == [0, MAX_IMAGE_ID]
    assert store.max_revision() == MAX_IMAGE_ID
    store.apply([delete(0, 3)])
    assert store.live_count() == 1


@pytest.mark.parametrize("image_id", [-1, MAX_IMAGE_ID + 1])
def test_an_id_out_of_range_fails_before_anything_is_applied(store: SignatureStore, image_id: int) -> None:
    with pytest.raises(InvalidImageId):
        store.apply([put(7, 100), put(image_id, 101)])
    assert store.head_seq() == 0


@pytest.mark.parametrize(
    "bad",
    [
        Signature((float("nan"), 0.0, 0.0), signature(1).positions),
        Signature((0.0, 0.0, float("inf")), signature(1).positions),
        Signature((0.0, 0.0, 0.0), bytes(240)),
        Signature((0.0, 0.0, 0.0), b"\x00\x40" * 120),
        Signature((0.0, 0.0, 0.0), b"\x00\x80" * 120),
        Signature((0.0, 0.0, 0.0), signature(1).positions[:-1]),
        Signature((0.0, 0.0, 0.0), signature(1).positions + b"\x01\x00"),
    ],
)
def test_what_is_no_signature_fails_before_anything_is_applied(store: SignatureStore, bad: Signature) -> None:
    with pytest.raises(InvalidHash):
        store.apply([put(7, 100), Write(8, 101, bad)])
    assert store.head_seq() == 0


@pytest.mark.parametrize(
    "averages",
    [(0.0, 0.0, 0.0), (1.0, -1.0, 0.5), (5e-324, -1.7976931348623157e308, 0.1 + 0.2), (3.0, 2.0**60, -7.0)],
)
def test_averages_come_back_to_the_bit(store: SignatureStore, averages: tuple[float, float, float]) -> None:
    kept = Signature(averages, b"\xff\x3f" * 60 + b"\x01\xc0" * 60)
    store.apply([Write(7, 1, kept)])
    assert store.get(7) == kept
    assert as_changes(store.changes_since(0, 1)) == [(1, 7, kept)]


def test_negative_zero_becomes_zero_on_both(store: SignatureStore) -> None:
    store.apply([Write(7, 1, Signature((-0.0, -0.0, 0.5), signature(1).positions))])
    assert str(store.get(7).averages) == "(0.0, 0.0, 0.5)"


def test_applying_nothing_changes_nothing(store: SignatureStore) -> None:
    assert store.apply([]) == []
    assert store.head_seq() == 0


def test_a_batch_has_the_promised_columns(store: SignatureStore) -> None:
    store.apply([put(7, 100), delete(8, 101)])
    for batch in (store.changes_since(0, 10), store.changes_since(2, 10)):
        n = len(batch)
        assert (batch.seqs.dtype, batch.seqs.shape) == (np.int64, (n,))
        assert (batch.image_ids.dtype, batch.image_ids.shape) == (np.int64, (n,))
        assert (batch.is_live.dtype, batch.is_live.shape) == (np.bool_, (n,))
        assert (batch.averages.dtype, batch.averages.shape) == (np.float64, (n, 3))
        assert (batch.positions.dtype, batch.positions.shape) == (np.int16, (n, 3, 40))
        assert batch.averages.flags.c_contiguous
        assert batch.positions.flags.c_contiguous


def test_the_feed_is_read_in_pieces_of_any_size(store: SignatureStore) -> None:
    naive = NaiveStore()
    rng = random.Random(5)
    for revision in range(1, 60):
        apply_to_both(store, naive, [rng.choice([put, delete])(rng.randrange(30), revision)])
    whole = naive.changes_since(0, 1000)
    for limit in (1, 2, 7, len(whole), 1000):
        assert all_changes(store, limit=limit) == whole
    for cursor in range(naive.head_seq + 2):
        assert as_changes(store.changes_since(cursor, 5)) == naive.changes_since(cursor, 5)


def test_a_feed_longer_than_any_buffer_comes_out_whole(store: SignatureStore) -> None:
    n = 20_000
    for start in range(0, n, 5000):
        store.apply([put(3 * k, 10 + k, k % 50) for k in range(start, start + 5000)])
    store.apply([delete(3 * k, 10**6) for k in range(0, n, 1000)])
    batch = store.changes_since(0, 10**6)
    assert len(batch) == n
    expected = [(k + 1, 3 * k, signature(k % 50)) for k in range(n) if k % 1000]
    expected += [(n + 1 + k // 1000, 3 * k, None) for k in range(0, n, 1000)]
    assert as_changes(batch) == expected
    assert all_changes(store, limit=16_385) == expected


def test_a_group_of_thousands_is_one_transaction(store: SignatureStore) -> None:
    outcomes = store.apply([put(k, 1, k % 20) for k in range(3000)])
    assert [outcome.seq for outcome in outcomes] == list(range(1, 3001))
    outcomes = store.apply([delete(k, 2) if k % 2 else put(k, 2, k % 20 + 1) for k in range(3000)])
    assert [outcome.seq for outcome in outcomes] == list(range(3001, 6001))
    assert store.live_count() == 1500
    assert live_images(store) == {k: signature(k % 20 + 1) for k in range(0, 3000, 2)}


def test_everything_is_there_after_reopening(store: SignatureStore, store_url: str) -> None:
    naive = NaiveStore()
    apply_to_both(store, naive, [put(7, 100), put(8, 101), delete(9, 102)])
    store_id = store.store_id
    store.close()
    again = open_store(store_url)
    agree(again, naive)
    assert again.store_id == store_id
    apply_to_both(again, naive, [put(7, 99), put(8, 103)])
    agree(again, naive)
    again.close()


def test_two_stores_have_two_names(store: SignatureStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = open_store(str(tmp_path_factory.mktemp("other") / "other.sqlite"))
    assert other.store_id != store.store_id
    other.close()


def test_two_handles_share_one_store(store: SignatureStore, store_url: str) -> None:
    other = open_store(store_url)
    store.apply([put(7, 100)])
    assert other.get(7) == signature(100)
    assert other.apply([put(8, 101)]) == [WriteOutcome(2, is_stale=False)]
    assert [change[0] for change in all_changes(store)] == [1, 2]
    assert other.store_id == store.store_id
    other.close()
    store.apply([put(9, 102)])
    assert store.live_count() == 3


def test_a_closed_store_says_so(store: SignatureStore) -> None:
    store.close()
    store.close()
    for use in (
        lambda: store.apply([put(7, 100)]),
        lambda: store.changes_since(0, 1),
        lambda: store.get(7),
        store.head_seq,
        store.live_count,
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            use()


def test_first_opens_at_the_same_time_make_one_store(store_url: str) -> None:
    barrier = threading.Barrier(4)

    def open_and_put(number: int) -> str:
        barrier.wait()
        opened = open_store(store_url)
        try:
            opened.apply([put(number, 1)])
            return opened.store_id
        finally:
            opened.close()

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(open_and_put, range(4)))
    assert len(names) == 1
    opened = open_store(store_url)
    assert opened.live_count() == 4
    opened.close()


def test_who_opens_a_store_waits_for_those_who_write_to_it_already(store: SignatureStore) -> None:
    """Another process made the tables a moment before, and writes: that is no change by another program."""
    backend = store._backend
    with ThreadPoolExecutor(1) as pool:
        with backend.upgrading() as connection:
            backend.keep_writers_out(connection)
            before = backend.counter(connection)
            writing = pool.submit(store.apply, [put(1, 1)])
            with pytest.raises(TimeoutError):
                writing.result(0.2)
            assert backend.counter(connection) == before
        assert writing.result(30)[0].seq == before.head_seq + 1


def test_many_threads_may_use_one_store(store: SignatureStore) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            store.apply([put(number, 10 + turn), put(1000 + turn, number + 1)])
            assert store.get(number) == signature(10 + turn)
            store.changes_since(0, 50)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.live_count() == 28
    assert live_images(store) == {k: signature(29) for k in range(8)} | {
        1000 + k: signature(8) for k in range(20)
    }
    seqs = [change[0] for change in all_changes(store)]
    assert seqs == sorted(set(seqs))


def test_seqs_become_visible_in_their_order_however_transactions_interleave(store_url: str) -> None:
    """Writers hold transactions open at random while a reader polls: it must never step over a change."""
    writers = [open_store(store_url) for _ in range(4)]
    reader = open_store(store_url)
    rng = random.Random(11)
    pauses = [rng.choice([0.0, 0.0, 0.002, 0.01]) for _ in range(120)]
    turns = iter(range(120))
    hand_out = threading.Lock()
    never = threading.Event()

    def write(own: SignatureStore) -> None:
        while True:
            with hand_out:
                turn = next(turns, None)
            if turn is None:
                return
            backend = own._backend
            with backend.writing() as connection:
                never.wait(pauses[turn])
                apply_writes(backend, connection, [put(turn % 40, turn + 1), put(1000 + turn, 1)])
                never.wait(pauses[-turn])

    seen: dict[int, Signature] = {}
    last_seq = 0
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(write, own) for own in writers]
        done = False
        while not done:
            # Asked before reading, so that the last read sees everything.
            done = all(future.done() for future in running)
            while len(batch := reader.changes_since(last_seq, rng.choice([1, 3, 100]))):
                assert batch.seqs[0] > last_seq
                last_seq = batch.last_seq
                seen |= {image_id: found for _, image_id, found in as_changes(batch) if found is not None}
        for future in running:
            future.result()
    assert seen == live_images(reader)
    assert seen.keys() == set(range(40)) | {1000 + turn for turn in range(120)}
    assert last_seq == reader.head_seq()
    for opened in [*writers, reader]:
        opened.close()


def test_no_id_is_twice_in_a_batch_while_images_are_rewritten(
    store: SignatureStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_ROWS_PER_AGGREGATE", 3)
    store.apply([put(image_id, 1) for image_id in range(60)])
    writer = open_store(store_url)
    stop = threading.Event()

    def rewrite() -> None:
        for revision in range(2, 100_000):
            if stop.is_set():
                return
            writer.apply([put(image_id, revision, revision % 9) for image_id in range(revision % 7, 60, 7)])

    with ThreadPoolExecutor(1) as pool:
        rewriting = pool.submit(rewrite)
        batches = [store.changes_since(0, 1000).image_ids.tolist() for _ in range(100)]
        stop.set()
        rewriting.result()
    assert all(sorted(image_ids) == list(range(60)) for image_ids in batches)
    writer.close()


def test_an_open_transaction_is_invisible_and_holds_back_the_next(
    store: SignatureStore, store_url: str
) -> None:
    other = open_store(store_url)
    with ThreadPoolExecutor(1) as pool:
        with store._backend.writing() as connection:
            apply_writes(store._backend, connection, [put(1, 1)])
            second = pool.submit(other.apply, [put(2, 2)])
            assert len(other.changes_since(0, 10)) == 0
            assert not second.done()
        assert second.result(30) == [WriteOutcome(2, is_stale=False)]
    assert [change[1] for change in all_changes(store)] == [1, 2]
    other.close()


def test_a_transaction_that_fails_leaves_no_trace(store: SignatureStore) -> None:
    def fail_before_the_commit() -> None:
        with store._backend.writing() as connection:
            apply_writes(store._backend, connection, [put(1, 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_before_the_commit()
    agree(store, NaiveStore())
    assert store.apply([put(2, 2)]) == [WriteOutcome(1, is_stale=False)]


@pytest.mark.usefixtures("log_stays")  # whoever folds it holds the lock for a while, too
def test_a_lock_held_too_long_is_reported_and_not_waited_for(store: SignatureStore, store_url: str) -> None:
    impatient = open_store(store_url, timeouts=StoreTimeouts(lock_s=0.2))
    with store._backend.writing(), pytest.raises(StoreUnavailable):
        impatient.apply([put(1, 1)])
    assert impatient.apply([put(1, 1)]) == [WriteOutcome(1, is_stale=False)]
    impatient.close()


def test_readers_do_not_wait_for_a_writer(store: SignatureStore) -> None:
    store.apply([put(1, 1)])
    with store._backend.writing():
        assert store.get(1) == signature(1)
        assert store.head_seq() == 1
        assert len(store.changes_since(0, 10)) == 1


def test_an_unread_feed_grows_with_images_not_with_writes(store: SignatureStore) -> None:
    for revision in range(1, 101):
        store.apply([put(revision % 5, revision)])
    assert [seq for seq, _, _ in all_changes(store)] == [96, 97, 98, 99, 100]
