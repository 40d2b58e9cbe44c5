"""Queries, updates, merges and checkpoints at once: every query sees whole batches, and nothing is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from iqdb_core.errors import IndexStateError
from iqdb_core.index import ImageIndex, IndexOptions
from tests.fixtures.index_rows import Feed, random_rows, random_signature, signature_at
from tests.fixtures.waiting import wait_until
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = IndexOptions(head_capacity=16, merge_fan_out=3, checkpoint_interval_s=0.01)


class Worker(threading.Thread):
    """Runs a function until told to stop; what it raised comes out of `finish`."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.stopping = threading.Event()
        self.rounds = 0
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.work()
                self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - shown by finish
            self.error = error

    def finish(self) -> None:
        self.stopping.set()
        self.outcome()

    def outcome(self) -> None:
        """Wait for the end, without asking for it, and raise what caused it."""
        self.join(30)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


def test_queries_see_whole_batches_during_updates_and_maintenance(tmp_path: Path) -> None:
    """Each batch replaces the same ten images by ten equal ones, so a query must see ten of one kind."""
    rng = np.random.default_rng(3)
    kinds = [random_signature(rng) for _ in range(8)]
    index = ImageIndex.open(tmp_path, store_id="store", options=SMALL)
    feed = Feed()
    index.apply(feed.puts(range(1_000, 1_100), random_rows(rng, 100, n_positions=16_000)))
    index.apply(feed.batch(*[(image_id, kinds[0]) for image_id in range(10)]))
    index.start_maintenance()

    def look() -> None:
        matches = index.query(kinds[3], 1_000)
        seen = [match.signature for match in matches if match.image_id < 10]
        assert len(seen) == 10
        assert len(set(seen)) == 1
        assert len({match.score for match in matches if match.image_id < 10}) == 1

    workers = [Worker(look), Worker(look), Worker(index.save_checkpoint)]
    turn = 0
    try:
        while min(worker.rounds for worker in workers) < 30 and all(worker.is_alive() for worker in workers):
            turn += 1
            index.apply(feed.batch(*[(image_id, kinds[turn % 8]) for image_id in range(10)]))
    finally:
        for worker in workers:
            worker.finish()
    assert index.image_count == 110
    assert index.stats().maintenance == "running"
    index.close()


def test_nothing_is_lost_while_maintenance_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    index = ImageIndex.open(tmp_path, store_id="store", options=SMALL)
    index.start_maintenance()
    feed, model = Feed(), NaiveIndex()
    averages, positions = random_rows(rng, 200)
    pool = [signature_at(averages, positions, row) for row in range(200)]
    for _ in range(300):
        chosen = rng.choice(500, rng.integers(1, 30), replace=False).tolist()
        batch = feed.batch(
            *[(image_id, None if rng.random() < 0.4 else pool[rng.integers(200)]) for image_id in chosen]
        )
        index.apply(batch)
        model.apply(batch)
        assert index.image_count == len(model.images)
    query = random_signature(rng)
    assert index.query(query, 1_000) == model.query(query, 1_000)
    wait_until(lambda: index.stats().segments < 12, 30, what="merged")
    wait_until(lambda: index.stats().checkpoint_seq == feed.seq, 30, what="saved")
    assert index.query(query, 1_000) == model.query(query, 1_000)
    assert index.stats().maintenance_error is None
    index.close()
    with ImageIndex.open(tmp_path, store_id="store", options=SMALL) as again:
        assert again.applied_seq == feed.seq
        assert again.query(query, 1_000) == model.query(query, 1_000)


def test_first_checkpoint_is_saved_at_once_and_the_next_in_its_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    options = IndexOptions(head_capacity=16, checkpoint_interval_s=3_600, checkpoint_changes=100)
    with ImageIndex.open(tmp_path, store_id="store", options=options) as index:
        index.start_maintenance()
        feed = Feed()
        index.apply(feed.puts(range(20), random_rows(rng, 20)))
        wait_until(lambda: index.stats().checkpoint_seq == 20, 30, what="the first")
        for start in range(20, 130, 10):
            index.apply(feed.puts(range(start, start + 10), random_rows(rng, 10)))
        wait_until(lambda: index.stats().checkpoint_seq in (120, 130), 30, what="after 100 changes")


def test_closing_while_threads_query_apply_and_save(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = random_rows(rng, 40)
    query = signature_at(*rows, 0)
    for attempt in range(10):
        index = ImageIndex.open(tmp_path / str(attempt), store_id="store", options=SMALL)
        feed = Feed()
        index.start_maintenance()

        def apply(index: ImageIndex = index, feed: Feed = feed) -> None:
            index.apply(feed.puts(rng.choice(1_000, 40, replace=False), rows))

        def look(index: ImageIndex = index) -> None:
            for match in index.query(query, 20):
                assert len(match.signature.positions) == 240

        workers = [Worker(apply), Worker(look), Worker(look), Worker(index.save_checkpoint)]
        for worker in workers:
            wait_until(lambda worker=worker: worker.rounds > 2, 60, what="at work")
        index.close()
        for worker in workers:
            with pytest.raises(IndexStateError, match="closed"):
                worker.outcome()
        ImageIndex.open(tmp_path / str(attempt), store_id="store", options=SMALL).close()


def test_failing_maintenance_is_reported_and_queries_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("iqdb_core.index.image_index.merged", fail)
    with ImageIndex.open(tmp_path, store_id="store", options=SMALL) as index:
        index.start_maintenance()
        feed = Feed()
        for start in range(0, 80, 20):
            index.apply(feed.puts(range(start, start + 20), random_rows(rng, 20)))
        wait_until(lambda: index.stats().maintenance == "failed", 30, what="visible")
        assert index.stats().maintenance_error == "ZeroDivisionError: a defect"
        index.apply(feed.deletes([1]))
        assert index.image_count == 79
        assert len(index.query(random_signature(rng), 1_000)) == 79
