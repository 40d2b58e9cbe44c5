"""The job ledger: accepted writes on their way to the store, kept in Redis until they are committed.

Imports `redis` and nothing of Celery, web, SQL or images.
"""

from iqdb_core.jobs.accepting import JobLedger, QueueLimits
from iqdb_core.jobs.connection import RedisPort
from iqdb_core.jobs.model import (
    Accepted,
    Depth,
    Done,
    Failed,
    Job,
    JobKind,
    JobPage,
    JobState,
    StartedJob,
    Submission,
)
from iqdb_core.jobs.working import Retention, WorkLedger

__all__ = [
    "Accepted",
    "Depth",
    "Done",
    "Failed",
    "Job",
    "JobKind",
    "JobLedger",
    "JobPage",
    "JobState",
    "QueueLimits",
    "RedisPort",
    "Retention",
    "StartedJob",
    "Submission",
    "WorkLedger",
]
