"""The job ledger: accepted writes on their way to the store, kept in Redis until they are committed.

Imports nothing of Celery, web, SQL or images, and `redis` only when the ledger itself is used: a server
without a queue needs only the values of `model`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from iqdb_core.jobs.accepting import JobLedger, QueueLimits
    from iqdb_core.jobs.connection import RedisPort
    from iqdb_core.jobs.keys import Keys
    from iqdb_core.jobs.model import (
        Acceptance,
        Accepted,
        Claim,
        ClaimedJob,
        Depth,
        Done,
        Failed,
        Idling,
        Job,
        JobKind,
        JobPage,
        JobState,
        Lane,
        PutBack,
        Submission,
    )
    from iqdb_core.jobs.reading import JobReader
    from iqdb_core.jobs.working import Retention, WorkLedger

_HOMES: Final = ("model", "keys", "connection", "accepting", "reading", "working")
"""The first two do not load the client of Redis."""

__all__ = [
    "Acceptance",
    "Accepted",
    "Claim",
    "ClaimedJob",
    "Depth",
    "Done",
    "Failed",
    "Idling",
    "Job",
    "JobKind",
    "JobLedger",
    "JobPage",
    "JobReader",
    "JobState",
    "Keys",
    "Lane",
    "PutBack",
    "QueueLimits",
    "RedisPort",
    "Retention",
    "Submission",
    "WorkLedger",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in __all__:
        for home in _HOMES:
            found = getattr(importlib.import_module(f"{__name__}.{home}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
