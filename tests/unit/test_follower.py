"""The follower keeps a sink in step with a real store, says where it is, and never dies in silence."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from iqdb_core.errors import IndexNotReady, IndexStateError, StoreError, StoreInvalid, StoreUnavailable
from iqdb_core.follower import Follower
from iqdb_core.following import FollowerState
from iqdb_core.store import open_store
from tests.fixtures.followers import wait_applied
from tests.fixtures.stores import (
    delete,
    live_images,
    put,
)
from tests.fixtures.waiting import wait_until
from tests.naive_store import as_changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iqdb_core.model import ChangeBatch, Signature
    from iqdb_core.store import SignatureStore

LONG_S = 30.0
NEVER_S = 10_000.0


class DictSink:
    """An index made of a dict."""

    def __init__(self) -> None:
        self.live: dict[int, Signature] = {}
        self.batches: list[int] = []
        self.resets = 0
        self.failure: BaseException | None = None
        self.is_asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def apply(self, batch: ChangeBatch) -> None:
        self.is_asked.set()
        assert self.gate.wait(LONG_S)
        if self.failure is not None:
            raise self.failure
        self.batches.append(len(batch))
        for _, image_id, found in as_changes(batch):
            if found is None:
                self.live.pop(image_id, None)
            else:
                self.live[image_id] = found

    def reset(self) -> None:
        self.resets += 1
        self.live = {}


class UnsteadySource:
    """A store that can be away or fail, as a database behind a network can."""

    def __init__(self, store: SignatureStore) -> None:
        self.store = store
        self.failure: Exception | None = None
        self.reads = 0

    def changes_since(self, cursor: int, limit: int) -> ChangeBatch:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.store.changes_since(cursor, limit)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SignatureStore]:
    opened = open_store(str(tmp_path / "store.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def sink() -> DictSink:
    return DictSink()


@pytest.fixture
def follower(store: SignatureStore, sink: DictSink) -> Iterator[Follower]:
    made = Follower(store, sink, cursor=0, poll_s=NEVER_S, batch=4)
    yield made
    sink.gate.set()
    made.stop()


def test_catching_up_applies_everything_and_tells_progress(
    store: SignatureStore, sink: DictSink, follower: Follower
) -> None:
    store.apply([put(k, 1 + k) for k in range(10)])
    store.apply([delete(3, 100)])
    told: list[tuple[int, int]] = []
    assert follower.state is FollowerState.STARTING
    follower.catch_up(lambda done, total: told.append((done, total)))
    assert follower.state is FollowerState.FOLLOWING
    assert sink.live == live_images(store)
    assert sink.batches == [4, 4, 2]
    assert follower.applied_seq == follower.head_seen == 11
    assert follower.lag_seq == 0
    assert told == [(5, 11), (9, 11), (11, 11)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9])
def test_catching_up_from_any_cursor(store: SignatureStore, count: int) -> None:
    if count:
        store.apply([put(k, 1 + k) for k in range(count)])
    for cursor in range(count + 1):
        fresh = DictSink()
        made = Follower(store, fresh, cursor=cursor, poll_s=NEVER_S, batch=4)
        made.catch_up()
        assert sum(fresh.batches) == count - cursor
        assert made.applied_seq == count
        assert fresh.live.keys() == set(range(cursor, count))
        made.stop()


def test_applying_twice_is_harmless(store: SignatureStore, sink: DictSink) -> None:
    store.apply([put(k, 1 + k) for k in range(10)] + [delete(3, 100)])
    for cursor in (0, 0, 5):
        Follower(store, sink, cursor=cursor, poll_s=NEVER_S, batch=3).catch_up()
    assert sink.live == live_images(store)


def test_polling_alone_is_enough(store: SignatureStore, sink: DictSink) -> None:
    made = Follower(store, sink, cursor=0, poll_s=0.01)
    made.start()
    store.apply([put(7, 100)])
    wait_until(lambda: made.applied_seq == 1, LONG_S)
    store.apply([delete(7, 101)])
    wait_until(lambda: sink.live == {}, LONG_S)
    made.stop()
    assert made.state is FollowerState.STOPPED


def test_a_wake_comes_before_the_poll(store: SignatureStore, follower: Follower) -> None:
    follower.start()
    store.apply([put(7, 100)])
    follower.wake()
    wait_until(lambda: follower.applied_seq == 1, LONG_S)


def test_waiting_wakes_by_itself(store: SignatureStore, sink: DictSink, follower: Follower) -> None:
    follower.start()
    for revision in range(1, 30):
        (outcome,) = store.apply([put(revision, revision)])
        assert wait_applied(follower, outcome.seq, LONG_S)
        assert revision in sink.live
    assert wait_applied(follower, 1, 0.0)


def test_waiting_ends_when_the_time_is_up(store: SignatureStore, sink: DictSink, follower: Follower) -> None:
    follower.start()
    sink.gate.clear()
    (outcome,) = store.apply([put(7, 100)])
    assert wait_applied(follower, outcome.seq, 0.05) is False
    sink.gate.set()
    assert wait_applied(follower, outcome.seq, LONG_S) is True


def test_callbacks_are_called_once_in_order_of_seq(
    store: SignatureStore, sink: DictSink, follower: Follower
) -> None:
    called: list[tuple[int, IndexStateError | None]] = []

    def note(seq: int) -> object:
        return follower.when_applied(seq, lambda failure: called.append((seq, failure)))

    sink.gate.clear()
    follower.start()
    store.apply([put(k, 1 + k) for k in range(6)])
    for seq in (5, 2, 6, 2):
        note(seq)
    withdraw = follower.when_applied(3, lambda failure: called.append((3, failure)))
    withdraw()
    assert called == []
    sink.gate.set()
    assert wait_applied(follower, 6, LONG_S)
    wait_until(lambda: len(called) == 4, LONG_S)
    assert called == [(2, None), (2, None), (5, None), (6, None)]
    note(4)
    assert called[-1] == (4, None)
    withdraw()


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreInvalid], ids=["away", "being restored"])
def test_a_store_that_is_away_is_waited_for(
    store: SignatureStore, sink: DictSink, kind: type[StoreError]
) -> None:
    source = UnsteadySource(store)
    made = Follower(source, sink, cursor=0, poll_s=0.01)
    source.failure = kind("gone fishing")
    with pytest.raises(kind):
        made.catch_up()
    made.start()
    wait_until(lambda: made.state is FollowerState.STORE_AWAY, LONG_S)
    (outcome,) = store.apply([put(7, 100)])
    assert wait_applied(made, outcome.seq, 0.05) is False
    wait_until(lambda: made.store_error == "gone fishing", LONG_S)
    source.failure = None
    assert wait_applied(made, outcome.seq, LONG_S)
    wait_until(lambda: made.state is FollowerState.FOLLOWING, LONG_S)
    wait_until(lambda: made.store_error is None, LONG_S)
    source.failure = kind("again")
    wait_until(lambda: made.state is FollowerState.STORE_AWAY, LONG_S)
    made.stop()
    assert made.state is FollowerState.STOPPED


def test_a_store_that_is_away_is_not_hammered(store: SignatureStore, sink: DictSink) -> None:
    source = UnsteadySource(store)
    source.failure = StoreUnavailable("gone")
    made = Follower(source, sink, cursor=0, poll_s=0.0)
    made.start()
    wait_until(lambda: made.state is FollowerState.STORE_AWAY, LONG_S)
    pause = threading.Event()
    for _ in range(100):
        made.wake()
        pause.wait(0.003)
    assert source.reads <= 8
    made.stop()


@pytest.mark.parametrize("where", ["source", "sink"])
def test_a_failed_follower_reports_it_everywhere(store: SignatureStore, sink: DictSink, where: str) -> None:
    source = UnsteadySource(store)
    deaths: list[BaseException] = []
    made = Follower(source, sink, cursor=0, poll_s=0.01, on_failure=deaths.append, invalid_patience_s=0)
    made.start()
    wait_until(lambda: made.state is FollowerState.FOLLOWING, LONG_S)
    told: list[IndexStateError | None] = []
    made.when_applied(10**6, told.append)
    failures: list[BaseException] = []

    def wait_in_vain() -> None:
        try:
            wait_applied(made, 10**6, LONG_S)
        except IndexStateError as failure:
            failures.append(failure)

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_until(lambda: len(made._waiters) == 2, LONG_S)
    error = MemoryError("no room")
    if where == "source":
        source.failure = StoreInvalid("another schema now")
    else:
        sink.failure = error
        store.apply([put(7, 100)])
    waiting.join(LONG_S)
    wait_until(lambda: deaths, LONG_S)
    assert made.state is FollowerState.DEAD
    assert deaths == [source.failure or error]
    assert [type(failure) for failure in failures] == [IndexStateError]
    assert [type(failure) for failure in told] == [IndexStateError]
    assert made.applied_seq == 0
    with pytest.raises(IndexStateError, match="no longer follows"):
        wait_applied(made, 1, LONG_S)
    made.stop()
    assert made.state is FollowerState.DEAD
    assert len(deaths) == 1


def test_stopping_fails_all_waiters(store: SignatureStore, follower: Follower) -> None:
    told: list[IndexStateError | None] = []
    follower.start()
    follower.when_applied(10, told.append)
    follower.stop()
    assert [type(failure) for failure in told] == [IndexNotReady]
    with pytest.raises(IndexNotReady):
        wait_applied(follower, 10, LONG_S)
    follower.stop()
    assert store.head_seq() == 0


def test_stopping_waits_for_the_batch_being_applied(
    store: SignatureStore, sink: DictSink, follower: Follower
) -> None:
    store.apply([put(k, 1 + k) for k in range(20)])
    sink.gate.clear()
    follower.start()
    assert sink.is_asked.wait(LONG_S)
    assert follower.head_seen == 20
    stopping = threading.Thread(target=follower.stop)
    stopping.start()
    wait_until(follower._stopping.is_set, LONG_S)
    assert stopping.is_alive()
    sink.gate.set()
    stopping.join(LONG_S)
    assert sink.batches == [4]
    assert follower.applied_seq == 4
    assert follower.lag_seq == 16


def test_many_writers_and_waiters(store: SignatureStore, sink: DictSink) -> None:
    made = Follower(store, sink, cursor=0, poll_s=NEVER_S, batch=7)
    made.start()
    failures: list[object] = []

    def work(number: int) -> None:
        for turn in range(25):
            image_id = number * 1000 + turn
            (outcome,) = store.apply([put(image_id, 1, turn)])
            if not wait_applied(made, outcome.seq, LONG_S) or image_id not in sink.live:
                failures.append(image_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sink.live == live_images(store)
    assert np.sum(sink.batches) == 150
    made.stop()


def test_disk_trouble_of_the_sink_is_waited_out(
    store: SignatureStore, sink: DictSink, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    store.apply([put(1, 1)])
    sink.failure = OSError(28, "No space left on device", "/somewhere/00000007.rows")
    follower.start()
    wait_until(lambda: follower.state is FollowerState.SINK_BLOCKED, LONG_S, what="the trouble is seen")
    assert follower.sink_error == "No space left on device"
    store.apply([put(2, 2)])
    sink.failure = None
    assert wait_applied(follower, store.head_seq(), LONG_S)
    wait_until(lambda: follower.state is FollowerState.FOLLOWING, LONG_S, what="it follows again")
    assert follower.sink_error is None
    assert set(sink.live) == {1, 2}
    assert [record.action for record in caplog.records] == ["sink_blocked"]  # type: ignore[attr-defined]


def test_the_newest_known_seq_is_the_stores_and_at_least_the_applied_one(
    store: SignatureStore, sink: DictSink, follower: Follower
) -> None:
    assert (follower.head_seen, follower.lag_seq) == (0, 0)
    store.apply([put(number, number + 1) for number in range(10)])
    assert follower.head_seen == 0, "nobody has looked"
    seen: list[tuple[int, int, int]] = []
    follower.catch_up(lambda *_: seen.append((follower.applied_seq, follower.head_seen, follower.lag_seq)))
    assert seen == [(4, 10, 6), (8, 10, 2), (10, 10, 0)]
    assert len(sink.live) == 10
