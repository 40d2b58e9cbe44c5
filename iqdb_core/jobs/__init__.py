"""The job ledger: accepted writes on their way to the store, kept in Redis until they are committed.

Imports `redis` and nothing of Celery, web, SQL or images.
"""

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
