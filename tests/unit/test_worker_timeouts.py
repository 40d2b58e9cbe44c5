"""A store that has fallen silent is given up before the task's time limit: a killed process blames images."""

from __future__ import annotations

import pytest

from iqdb_core.settings import LEAST_TASK_S, Settings
from worker.handlers import TaskLimits
from worker.process_resources import store_timeouts


@pytest.mark.parametrize("limit_s", [LEAST_TASK_S, 45])
def test_a_frozen_postgres_leaves_time_to_put_images_back(limit_s: int) -> None:
    """At worst a task that has used up its round first meets a connection that is silent, then a new one."""
    timeouts = store_timeouts(Settings.read(task_time_limit_s=limit_s))
    silent_s = timeouts.statement_s + min(timeouts.statement_s, 5.0)  # as the store waits for an answer
    assert TaskLimits().round_s + silent_s + timeouts.connect_s < 0.9 * limit_s
