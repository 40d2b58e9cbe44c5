"""When the sweep reads what a pool of real processes reports: also if the first connection breaks at once."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import Hub

from worker.lost_acks import AcknowledgementWatch
from worker.sweep import Sweeper, sweep_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # Otherwise a folder is made that is to be removed at the exit, after that of all tests.
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(tmp_path))  # type: ignore[attr-defined]
    app = Celery("sweep", set_as_current=False)
    pool = TaskPool(1, app=app, threads=False, initargs=(app, "sweep@here"))
    pool.start()
    yield pool
    for process in pool._pool._pool:
        os.kill(process.pid, signal.SIGKILL)  # it has inherited what this process does at its exit
    pool.terminate()


def find_reports(pool: Any, timeout_s: float) -> list[tuple[int, int]]:
    """Return the pipes from which something can be read."""
    poll = select.poll()
    for pipe in pool._pool._fileno_to_outq:
        poll.register(pipe, select.POLLIN)
    return poll.poll(timeout_s * 1000)


def test_a_connection_that_breaks_before_the_event_loop_ends_no_worker(pool: Any) -> None:
    """The steps of Celery that come after the sweep use Redis, too."""
    sweeper = Sweeper(lambda: pytest.fail("no sweep is due"), lambda _: None)
    watch = AcknowledgementWatch()
    hub = Hub()  # which does not run: no timer of it goes off
    parent = SimpleNamespace(hostname="sweep@here", pool=pool, timer=hub.timer)
    step = sweep_step(sweeper, watch, lambda: 60.0)(parent)
    assert find_reports(pool, 30), "the process has started"
    for generation in (1, 2):
        parent.connection = SimpleNamespace(default_channel=SimpleNamespace())
        step.start(parent)
        assert watch.generation == generation
    pool.register_with_event_loop(hub)
    step.register_with_event_loop(parent, hub)
    assert not find_reports(pool, 0)
