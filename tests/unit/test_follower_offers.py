"""Changes handed to a follower by whoever committed them: taken when they are next, else left to the feed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from iqdb_core.follower import Follower
from iqdb_core.store import open_store
from tests.fixtures.followers import wait_applied
from tests.fixtures.stores import delete, live_images, put
from tests.fixtures.waiting import wait_until
from tests.unit.test_follower import LONG_S, NEVER_S, DictSink, UnsteadySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scene:
    """A store, a follower of it that looks only when it is woken, and another process's handle."""

    def __init__(self, path: Path) -> None:
        self.store, self.other = open_store(str(path)), open_store(str(path))
        self.source = UnsteadySource(self.store)
        self.sink = DictSink()
        self.follower = Follower(self.source, self.sink, cursor=0, poll_s=NEVER_S)
        self.follower.catch_up()
        self.follower.start()
        self.settle()

    def settle(self) -> None:
        """Wait until the follower has nothing to do."""
        self.follower.wake()
        assert wait_applied(self.follower, self.store.head_seq(), LONG_S)
        reads = self.source.reads
        self.follower.wake()
        wait_until(lambda: self.source.reads > reads and not self.follower._turn.locked(), LONG_S)

    def close(self) -> None:
        self.sink.gate.set()
        self.follower.stop()
        self.store.close()
        self.other.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "store.sqlite")
    made.store.apply([put(0, 1)])  # each handle has made its mark in the history
    made.other.apply([put(1, 2)])
    made.settle()
    yield made
    made.close()


def agree(scene: Scene) -> None:
    assert wait_applied(scene.follower, scene.store.head_seq(), LONG_S)
    assert scene.sink.live == live_images(scene.store)


def test_an_offer_that_comes_next_is_applied_without_reading(scene: Scene) -> None:
    reads = scene.source.reads
    for revision in range(10, 20):
        _, batch = scene.store.apply_and_read([put(revision, revision), delete(revision - 1, revision)])
        assert scene.follower.offer(batch)
        assert scene.follower.applied_seq == batch.last_seq
        agree(scene)
    assert scene.source.reads == reads


def test_changes_of_other_writers_before_an_offer_are_read(scene: Scene) -> None:
    scene.other.apply([put(5, 10)])
    _, batch = scene.store.apply_and_read([put(6, 11)])
    assert not scene.follower.offer(batch)
    agree(scene)
    assert set(scene.sink.live) == {0, 1, 5, 6}


def test_repeated_and_late_offers_change_nothing(scene: Scene) -> None:
    _, first = scene.store.apply_and_read([put(5, 10)])
    _, second = scene.store.apply_and_read([delete(5, 11)])
    assert not scene.follower.offer(second)
    agree(scene)
    assert not scene.follower.offer(first)
    assert not scene.follower.offer(second)
    agree(scene)
    assert set(scene.sink.live) == {0, 1}


def test_a_commit_that_changed_nothing_is_no_offer(scene: Scene) -> None:
    _, batch = scene.store.apply_and_read([put(0, 1)])
    assert not scene.follower.offer(batch)
    agree(scene)


def test_another_history_is_not_taken(scene: Scene, tmp_path: Path) -> None:
    stranger = open_store(str(tmp_path / "stranger.sqlite"))
    stranger.apply([put(8, 1), put(9, 2)])
    _, batch = stranger.apply_and_read([put(10, 3)])
    assert batch.last_seq == scene.follower.applied_seq + 1
    assert not scene.follower.offer(batch)
    agree(scene)
    stranger.close()


def test_while_the_follower_is_busy_nothing_is_taken(scene: Scene) -> None:
    scene.sink.gate.clear()
    scene.sink.is_asked.clear()
    scene.other.apply([put(5, 10)])
    scene.follower.wake()
    assert scene.sink.is_asked.wait(LONG_S)
    _, batch = scene.store.apply_and_read([put(6, 11)])
    assert not scene.follower.offer(batch)  # and it does not wait
    scene.sink.gate.set()
    agree(scene)


def test_an_offer_refused_by_the_sink_is_retried_by_the_follower(scene: Scene) -> None:
    scene.sink.failure = OSError(28, "No space left on device")
    _, batch = scene.store.apply_and_read([put(5, 10)])
    assert not scene.follower.offer(batch)
    wait_until(lambda: scene.follower.sink_error is not None, LONG_S)
    scene.sink.failure = None
    agree(scene)


def test_a_stopped_follower_applies_no_offer(scene: Scene) -> None:
    scene.follower.stop()
    _, batch = scene.store.apply_and_read([put(5, 10)])
    assert not scene.follower.offer(batch)
    assert 5 not in scene.sink.live


def test_two_writers_at_once(scene: Scene) -> None:
    """Here one that offers, and there one that does not: nothing is missed, and nothing comes back."""

    def elsewhere() -> None:
        for revision in range(1000, 1100):
            scene.other.apply([put(revision % 7, revision), delete(revision % 5, revision)])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    for revision in range(1000, 1100):
        outcomes, batch = scene.store.apply_and_read(
            [put(revision % 6, revision), delete(revision % 4, revision)]
        )
        scene.follower.offer(batch)
        assert wait_applied(scene.follower, max(one.seq for one in outcomes), LONG_S)
    thread.join()
    scene.follower.wake()
    agree(scene)
