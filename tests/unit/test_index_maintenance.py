"""The maintenance thread: runs when woken, heals from disk errors, and never dies in silence."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from iqdb_core.index.upkeep.maintenance import Maintenance
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    import pytest


def test_it_runs_when_woken_and_ends_when_stopped() -> None:
    ran = threading.Event()
    maintenance = Maintenance(lambda: bool(ran.set()))
    assert maintenance.state == "off"
    maintenance.start()
    maintenance.start()
    maintenance.wake()
    assert ran.wait(10)
    maintenance.stop()
    maintenance.stop()
    assert maintenance.state == "off"
    assert maintenance.is_stopping


def test_disk_error_is_shown_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [OSError(28, "No space left on device")]
    failed, healed = threading.Event(), threading.Event()

    def work() -> bool:
        if outcomes:
            failed.set()
            raise outcomes.pop()
        healed.set()
        return True

    maintenance = Maintenance(work, retry_s=0.01)
    with caplog.at_level(logging.WARNING):
        maintenance.start()
        maintenance.wake()
        assert failed.wait(10)
        maintenance.wake()
        assert healed.wait(10)
    wait_until(lambda: maintenance.last_error is None, 30, what="the error is forgotten")
    assert maintenance.state == "running"
    assert "No space left" in caplog.text
    maintenance.stop()


def test_lasting_trouble_is_mentioned_once_and_not_cleared_by_a_try_that_did_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: list[Exception | bool] = [True, False, False, *[OSError(28, "No space left on device")] * 3]
    seen: list[str | None] = []

    def step() -> bool:
        seen.append(maintenance.last_error)
        outcome = outcomes.pop() if outcomes else False
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    maintenance = Maintenance(step, retry_s=0.001)
    with caplog.at_level(logging.WARNING):
        maintenance.start()
        wait_until(lambda: maintenance.wake() or len(seen) > 6, 30, what="everything was tried")
    maintenance.stop()
    assert seen[:7] == [None, *["No space left on device"] * 5, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_any_other_error_ends_the_thread_and_stays_visible(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> bool:
        raise ZeroDivisionError("a defect")

    maintenance = Maintenance(work)
    maintenance.start()
    maintenance.wake()
    wait_until(lambda: maintenance.state == "failed", 30, what="the failure is visible")
    maintenance.stop()
    assert maintenance.state == "failed"
    assert maintenance.last_error == "ZeroDivisionError: a defect"
    assert "a defect" in caplog.text
