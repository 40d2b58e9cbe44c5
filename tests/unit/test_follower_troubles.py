"""What a follower says of store and sink is what they are now, not what they were."""

from __future__ import annotations

import threading
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from iqdb_core import following
from iqdb_core.errors import StoreError, StoreInvalid, StoreUnavailable
from iqdb_core.follower import Follower
from iqdb_core.following import FollowerState
from iqdb_core.store import open_store
from tests.fixtures.stores import put
from tests.fixtures.waiting import wait_until
from tests.unit.test_follower import LONG_S, DictSink, UnsteadySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iqdb_core.model import ChangeBatch

FULL = OSError(28, "No space left on device")
PATIENCE_S = 600.0


class Scene:
    """A store that can be away, a sink that can be full, and a follower between them."""

    def __init__(self, path: Path, sink: DictSink | None = None) -> None:
        self.store, self.sink = open_store(str(path)), sink or DictSink()
        self.source = UnsteadySource(self.store)
        self.deaths: list[BaseException] = []
        self.follower = Follower(
            self.source,
            self.sink,
            cursor=0,
            poll_s=0.01,
            batch=2,
            on_failure=self.deaths.append,
            invalid_patience_s=PATIENCE_S,
        )

    def close(self) -> None:
        self.follower.stop()
        self.store.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "store.sqlite")
    yield made
    made.close()


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreInvalid])
def test_a_store_that_can_be_read_again_has_no_error_while_the_disk_is_full(
    scene: Scene, kind: type[StoreError]
) -> None:
    scene.store.apply([put(1, 1)])
    scene.source.failure, scene.sink.failure = kind("gone fishing"), FULL
    scene.follower.start()
    wait_until(lambda: scene.follower.store_error == "gone fishing", LONG_S)
    scene.source.failure = None
    wait_until(lambda: scene.follower.sink_error is not None, LONG_S)
    assert (scene.follower.store_error, scene.follower.sink_error) == (None, FULL.strerror)


def test_a_sink_that_took_changes_has_no_error_while_the_store_is_away(scene: Scene) -> None:
    scene.store.apply([put(number, 1) for number in range(5)])
    scene.sink.failure = FULL
    scene.follower.start()
    wait_until(lambda: scene.follower.sink_error is not None, LONG_S)
    scene.sink.is_asked.clear()
    scene.sink.gate.clear()
    assert scene.sink.is_asked.wait(LONG_S)
    scene.sink.failure, scene.source.failure = None, StoreUnavailable("gone fishing")
    scene.sink.gate.set()
    wait_until(lambda: scene.follower.state is FollowerState.STORE_AWAY, LONG_S)
    assert scene.sink.batches == [2, 2]
    assert (scene.follower.store_error, scene.follower.sink_error) == ("gone fishing", None)


def test_only_time_without_a_store_is_counted_against_its_patience(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: now[0]))
    scene.store.apply([put(1, 1)])
    scene.source.failure, scene.sink.failure = StoreInvalid("tables vanish"), FULL
    scene.follower.start()
    wait_until(lambda: scene.follower.store_error is not None, LONG_S)
    scene.source.failure = None
    wait_until(lambda: scene.follower.state is FollowerState.SINK_BLOCKED, LONG_S)
    for now[0] in (1.5 * PATIENCE_S, 2.4 * PATIENCE_S):
        scene.source.failure = StoreInvalid("again")
        reads = scene.source.reads
        wait_until(lambda reads=reads: scene.source.reads > reads + 1, LONG_S)
        assert scene.deaths == []
    now[0] = 2.5 * PATIENCE_S
    wait_until(lambda: scene.deaths, LONG_S)


def test_a_sink_that_stays_full_is_warned_of_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.store.apply([put(1, 1)])
    scene.sink.failure = FULL
    scene.follower.start()
    wait_until(lambda: scene.source.reads >= 4, LONG_S)
    assert [record.action for record in caplog.records] == ["sink_blocked"]  # type: ignore[attr-defined]


class OneThenWait(DictSink):
    """Takes one batch, and others when they are wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.are_wanted = threading.Event()

    def apply(self, batch: ChangeBatch) -> None:
        if self.batches:
            assert self.are_wanted.wait(LONG_S)
        super().apply(batch)


@pytest.mark.parametrize("trouble", ["store", "sink"])
def test_a_recovered_follower_reports_no_error_while_catching_up(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sink = OneThenWait()
    with closing(Scene(tmp_path / "store.sqlite", sink)) as scene:
        scene.store.apply([put(number, 1) for number in range(20)])
        state = FollowerState.STORE_AWAY if trouble == "store" else FollowerState.SINK_BLOCKED
        if trouble == "store":
            scene.source.failure = StoreUnavailable("gone fishing")
        else:
            sink.failure = FULL
        scene.follower.start()
        wait_until(lambda: scene.follower.state is state, LONG_S)
        scene.source.failure = sink.failure = None
        wait_until(lambda: scene.follower.state is FollowerState.FOLLOWING, LONG_S)
        assert scene.follower.lag_seq > 0
        assert any(getattr(record, "action", "") == f"{trouble}_back" for record in caplog.records)
        sink.are_wanted.set()
        wait_until(lambda: len(sink.live) == 20, LONG_S)
