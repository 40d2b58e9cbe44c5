"""What an operator can set of a worker, and what is refused before anything is opened."""

from __future__ import annotations

import pytest

from iqdb_core.errors import ConfigError
from worker.settings import WorkerSettings


def test_defaults_fit_together() -> None:
    settings = WorkerSettings.from_environment({})
    assert settings.task_time_limit_s < settings.visibility_timeout_s
    assert settings.worker_processes >= 1


def test_environment_and_then_options_decide() -> None:
    environment = {
        "IQDB_DATABASE_URL": "postgresql://x/y",
        "IQDB_WORKER_PROCESSES": "3",
        "IQDB_SWEEP_S": "0.5",
    }
    settings = WorkerSettings.from_environment(environment)
    assert (settings.database_url, settings.worker_processes, settings.sweep_s) == (
        "postgresql://x/y",
        3,
        0.5,
    )
    assert WorkerSettings.from_environment(environment, worker_processes=5).worker_processes == 5
    assert WorkerSettings.from_environment(environment, worker_processes=None).worker_processes == 3


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"IQDB_WORKER_PROCESSES": "many"}, "IQDB_WORKER_PROCESSES must be a number"),
        ({"IQDB_WORKER_PROCESSES": "0"}, "IQDB_WORKER_PROCESSES must be above 0"),
        ({"IQDB_SWEEP_S": "-1"}, "above 0"),
        ({"IQDB_SWEEP_S": "nan"}, "above 0"),
        ({"IQDB_TASK_TIME_LIMIT_S": "60"}, "must be below"),
        ({"IQDB_VISIBILITY_TIMEOUT_S": "30"}, "must be below"),
    ],
)
def test_what_cannot_work_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        WorkerSettings.from_environment(environment)
