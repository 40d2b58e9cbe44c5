"""A store that has fallen silent is given up before the task's time limit: a killed process blames images."""

from __future__ import annotations

import pytest

from iqdb_core.settings import LEAST_TASK_S, Settings
from iqdb_core.store.databases.postgres_engine import answer_s
from worker.process_resources import store_timeouts, task_limits

LEAST_CONNECT_S = 2.0
"""Postgres's library takes a shorter limit for this one."""


@pytest.mark.parametrize("limit_s", [LEAST_TASK_S, 20, 45])
def test_a_frozen_postgres_leaves_time_to_put_images_back(limit_s: int) -> None:
    """At worst a task has used up its round and its time to decode, and meets a silent connection twice."""
    settings = Settings.read(task_time_limit_s=limit_s, visibility_timeout_s=2 * limit_s)
    timeouts, limits = store_timeouts(settings), task_limits(settings)
    decoded_s = limits.round_s + limits.budget_s
    silent_s = answer_s(timeouts.statement_s) + max(timeouts.connect_s, LEAST_CONNECT_S)
    assert decoded_s + silent_s <= 0.9 * limit_s
