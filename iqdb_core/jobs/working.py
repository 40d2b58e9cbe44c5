"""The ledger as a worker sees it: take jobs, put the blame, finish or put back, and sweep for what was lost.

Never decodes an image and never writes to the store; `worker.handlers` does both between these calls. The
order of the calls is what keeps an accepted job from being lost: its payload goes only in `finish`, after the
commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from iqdb_core import codec
from iqdb_core.jobs.connection import RedisPort
from iqdb_core.jobs.keys import CHANGES_CHANNEL, FINISHED_CHANNEL, KEY_PREFIX, QUEUE_KEY
from iqdb_core.jobs.messages import VISIBILITY_TIMEOUT_S
from iqdb_core.jobs.model import Done, Failed, JobKind, StartedJob
from iqdb_core.jobs.reading import MICROSECONDS
from iqdb_core.jobs.scripts import BEGIN, FINISH, HASHED, RELEASE, START, SWEEP

_SLACK: Final = 1.25
"""The sweep waits this much longer than Celery's own redelivery, which is to come first."""
_REASON_CHARACTERS: Final = 1000
"""A reason may quote what a stranger sent: it is kept short, and any text can be stored."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how many records of final jobs are kept.

    Parameters
    ----------
    done_s, failed_s : int
        Seconds.
    max_records : int
        At most so many of each kind, the oldest go first: about 1 KB of Redis each.
    """

    done_s: int = 3600
    failed_s: int = 7 * 86400
    max_records: int = 100_000


class WorkLedger:
    """The worker's side of the ledger; safe to use from several threads, not across a fork.

    Parameters
    ----------
    port : RedisPort
    retention : Retention
    visibility_timeout_s : float
        The one of the Celery transport; a job that was not heard of for a quarter longer is sent again.
    prefix, queue_key : str
    """

    def __init__(
        self,
        port: RedisPort,
        *,
        retention: Retention = Retention(),
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
        prefix: str = KEY_PREFIX,
        queue_key: str = QUEUE_KEY,
    ) -> None:
        self._port = port
        self._retention = retention
        self._lease_us = int(visibility_timeout_s * _SLACK * MICROSECONDS)
        self._prefix = prefix
        self._queue_key = queue_key
        self._keep = (
            retention.done_s * MICROSECONDS,
            retention.failed_s * MICROSECONDS,
            retention.max_records,
        )

    def close(self) -> None:
        """Close the connections."""
        self._port.close()

    def start(self, job_ids: Sequence[str]) -> list[StartedJob]:
        """Take jobs in hand, leaving out those that are final or unknown; raises QueueUnavailable.

        Two workers may hold the same job after a redelivery. That costs time only: the store drops the second
        write as stale.
        """
        if not job_ids:
            return []
        rows = self._port.run(START, self._prefix, self._lease_us, *job_ids)
        return [
            StartedJob(job_id, JobKind(row[0].decode()), int(row[1]), int(row[2]), int(row[3]), int(row[4]))
            for job_id, row in zip(job_ids, rows, strict=True)
            if row is not None
        ]

    def begin(self, job: StartedJob, *, after: StartedJob | None = None) -> bytes | None:
        """Put the blame on `job` for whatever happens to this process until `hashed`, and return its payload.

        Parameters
        ----------
        job : StartedJob
        after : StartedJob, optional
            The one that came through just now: `hashed` for it, without a round trip of its own.

        Returns
        -------
        bytes or None
            None if the job became final meanwhile. Empty where there is none: of a deletion, or when it is
            lost.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        hashed = after.job_id if after is not None else ""
        is_open, payload = self._port.run(
            BEGIN,
            *(self._prefix, self._lease_us, job.job_id, job.attempts + 1, hashed),
            after=[("GET", f"{self._prefix}payload:{job.job_id}")],
        )
        if not is_open:
            return None
        return bytes(payload or b"")

    def hashed(self, job: StartedJob) -> None:
        """Take the blame off again: the process came through; raises QueueUnavailable."""
        self._port.run(HASHED, self._prefix, job.job_id)

    def release(self, job_ids: Sequence[str], delay_s: float) -> None:
        """Put jobs back; the sweep sends them again after `delay_s` seconds. Raises QueueUnavailable."""
        if job_ids:
            self._port.run(RELEASE, self._prefix, int(delay_s * MICROSECONDS), *job_ids)

    def finish(self, outcomes: Sequence[Done | Failed]) -> int:
        """Make jobs final, drop their payloads and tell those who wait; call it after the commit.

        Returns
        -------
        int
            How many were not final before: doing it twice is harmless.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        if not outcomes:
            return 0
        words: list[str | bytes | int] = []
        head_seq: str | int = ""
        for outcome in outcomes:
            if isinstance(outcome, Done):
                raw = codec.to_bytes(outcome.signature) if outcome.signature is not None else b""
                words += [outcome.job_id, "done", raw, outcome.seq]
                head_seq = max(int(head_seq or 0), outcome.seq)
            else:
                reason = outcome.reason[:_REASON_CHARACTERS].encode("utf-8", "backslashreplace")
                words += [outcome.job_id, "failed", reason, outcome.error]
        return int(
            self._port.run(
                FINISH, self._prefix, *self._keep, head_seq, CHANGES_CHANNEL, FINISHED_CHANNEL, *words
            )
        )

    def sweep(self, worker: str, limit: int = 1000) -> list[str]:
        """Take jobs that must be sent again, trim expired records, and note that `worker` is there.

        At most `2 * limit` jobs at a time. Any number of processes may sweep at once: a job is handed to one
        of them. If that one dies before sending, the job is found again.

        Returns
        -------
        list of str
            Job ids for the caller to send.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        found = self._port.run(
            SWEEP, self._prefix, *self._keep, self._lease_us, limit, self._queue_key, worker
        )
        return [job_id.decode() for job_id in found]

    def leave(self, worker: str) -> None:
        """Say that `worker` is going; raises QueueUnavailable."""
        self._port.read([("ZREM", f"{self._prefix}workers", worker)])
