"""What an operator can set of a worker, read from the environment once, by `worker.__main__`.

The names are those that the other roles use. Nothing else in this package reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from iqdb_core.errors import ConfigError
from iqdb_core.machine import usable_cores


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Every setting of a worker with its default; in the environment IQDB_ and the upper-case field name.

    Parameters
    ----------
    database_url : str
        The signature store: an SQLite file, or an SQLAlchemy URL of SQLite or Postgres.
    redis_url : str
        The queue.
    worker_processes : int
        Processes that decode, each one image at a time.
    max_pixels : int
        Most pixels an image's header may announce.
    max_attempts : int
        After so many tries that ended its process, an image is set aside as failed.
    job_retention_s, failed_retention_s : int
        How long records of done and of failed jobs are kept.
    max_job_records : int
        Most records of done jobs, and of failed ones, whatever their age.
    visibility_timeout_s : int
        A message is given to another worker when it is not acknowledged for so long.
    task_time_limit_s : int
        A process that works longer on one message is killed; must be below the visibility timeout.
    worker_max_memory_mib : int
        A process that has ever used more is replaced after its task.
    sweep_s : float
        Seconds between looks for jobs whose message was lost.
    """

    database_url: str = "iqdb.sqlite"
    redis_url: str = "redis://127.0.0.1:6379/0"
    worker_processes: int = usable_cores()
    max_pixels: int = 100_000_000
    max_attempts: int = 3
    job_retention_s: int = 3600
    failed_retention_s: int = 7 * 86400
    max_job_records: int = 100_000
    visibility_timeout_s: int = 60
    task_time_limit_s: int = 45
    worker_max_memory_mib: int = 1024
    sweep_s: float = 2.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """Read IQDB_* variables, then apply `overrides` that are not None.

        Raises
        ------
        ConfigError
            A value that is no number where one is needed, that is not above 0, or a time limit that is not
            below the visibility timeout.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = f"IQDB_{field.name.upper()}"
            if name in environment:
                values[field.name] = _parsed(name, environment[name], type(field.default))
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = cls(**values)
        for field in fields(cls):
            value = getattr(settings, field.name)
            if isinstance(value, int | float) and not value > 0:
                raise ConfigError(f"IQDB_{field.name.upper()} must be above 0, not {value}")
        if settings.task_time_limit_s >= settings.visibility_timeout_s:
            raise ConfigError(
                f"IQDB_TASK_TIME_LIMIT_S ({settings.task_time_limit_s}) must be below"
                f" IQDB_VISIBILITY_TIMEOUT_S ({settings.visibility_timeout_s}),"
                " or messages are worked on twice at once"
            )
        return settings


def _parsed(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be a number, not {text!r}") from error
