"""A follower notices that its store was put back to another state or lost changes, whatever its head says."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import IndexNotReady, StoreUnavailable
from iqdb_core.follower import Follower
from iqdb_core.following import FollowerState
from iqdb_core.store import open_store
from tests.fixtures.followers import wait_applied
from tests.fixtures.stores import live_images, mark_at, put
from tests.fixtures.waiting import wait_until
from tests.unit.test_follower import LONG_S, NEVER_S, DictSink, UnsteadySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sink() -> DictSink:
    return DictSink()


class History:
    """A store that can be backed up, put back, and written to by somebody new."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.sqlite"
        self.backup = folder / "backup.sqlite"
        self.store = open_store(str(self.path))

    def save(self) -> None:
        self.store.close()
        shutil.copy(self.path, self.backup)
        self.store = open_store(str(self.path))

    def put_back(self) -> None:
        self.store.close()
        shutil.copy(self.backup, self.path)
        self.store = open_store(str(self.path))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize("writes_after", [0, 1, 5, 7])
@pytest.mark.parametrize("writes_before", [1, 10])
def test_a_store_that_was_put_back_is_noticed_whatever_its_head(
    history: History, sink: DictSink, writes_before: int, writes_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    history.store.apply([put(k, 1 + k) for k in range(writes_before)])
    history.save()
    history.store.apply([put(100 + k, 100 + k) for k in range(5)])
    first = Follower(history.store, sink, cursor=0, poll_s=NEVER_S)
    first.catch_up()
    remembered = mark_at(history.store, first.applied_seq)
    history.put_back()
    if writes_after:
        history.store.apply([put(200 + k, 200 + k) for k in range(writes_after)])
    second = Follower(
        history.store, sink, cursor=first.applied_seq, lineage=remembered, poll_s=NEVER_S, batch=4
    )
    second.catch_up()
    assert sink.live == live_images(history.store)
    assert sink.resets == 1
    assert second.applied_seq == second.head_seen == history.store.head_seq()
    assert second.restart_reason is not None
    assert second.restart_reason in caplog.text
    second.check_whole()


@pytest.mark.parametrize("writes_after", [0, 4, 7])
def test_changes_that_are_lost_are_noticed_by_a_sink_that_begins_before_them(
    history: History, sink: DictSink, writes_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a crash: its checkpoint was saved before them."""
    history.store.apply([put(k, 1 + k) for k in range(3)])
    history.save()
    history.store.apply([put(100, 100)])
    held = history.store.head_seq(), mark_at(history.store, history.store.head_seq())
    kept = Follower(history.store, sink, cursor=0, held=held, poll_s=NEVER_S)
    kept.catch_up()
    assert (kept.restart_reason, caplog.text) == (None, "")
    history.put_back()
    if writes_after:
        history.store.apply([put(200 + k, 200 + k) for k in range(writes_after)])
    sink = DictSink()
    lost = Follower(history.store, sink, cursor=0, held=held, poll_s=NEVER_S)
    lost.catch_up()
    assert lost.restart_reason is not None
    assert f"{lost.restart_reason}: unless that was meant, changes are lost" in caplog.text
    assert (sink.live, sink.resets) == (live_images(history.store), 0)
    caplog.clear()
    lost.catch_up()
    assert caplog.text == "", "it is said once"


def test_a_store_with_new_changes_is_not_taken_for_another(history: History, sink: DictSink) -> None:
    cursor, remembered = 0, None
    for turn in range(4):
        history.store.apply([put(10 * turn + k, 1 + k) for k in range(5)])
        made = Follower(history.store, sink, cursor=cursor, lineage=remembered, poll_s=NEVER_S, batch=2)
        made.catch_up()
        cursor, remembered = made.applied_seq, mark_at(history.store, made.applied_seq)
        history.save()
    assert sink.resets == 0
    assert sink.live == live_images(history.store)


def test_a_store_that_is_put_back_while_it_is_followed(history: History, sink: DictSink) -> None:
    history.store.apply([put(k, 1 + k) for k in range(10)])
    history.save()
    history.store.apply([put(100 + k, 100 + k) for k in range(5)])
    source = UnsteadySource(history.store)
    made = Follower(source, sink, cursor=0, poll_s=0.01)
    made.start()
    assert wait_applied(made, 15, LONG_S)
    source.failure = StoreUnavailable("failing over")
    wait_until(lambda: made.state is FollowerState.STORE_AWAY, LONG_S)
    history.put_back()
    history.store.apply([put(200 + k, 200 + k) for k in range(7)])
    sink.is_asked.clear()
    sink.gate.clear()
    source.store, source.failure = history.store, None
    assert sink.is_asked.wait(LONG_S)
    assert made.state is FollowerState.REBUILDING
    with pytest.raises(IndexNotReady, match="put back to another state"):
        made.check_whole()
    sink.gate.set()
    assert wait_applied(made, 17, LONG_S)
    wait_until(lambda: made.state is FollowerState.FOLLOWING, LONG_S)
    assert sink.live == live_images(history.store)
    made.check_whole()
    made.stop()
