"""Reads the ledger: what became of jobs, how many wait, which workers are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from iqdb_core import codec
from iqdb_core.errors import UnknownJob
from iqdb_core.jobs.connection import Command, RedisPort
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys
from iqdb_core.jobs.model import Depth, Job, JobKind, JobPage, JobState, Lane
from iqdb_core.jobs.stages import StageTotals, read_stages

MICROSECONDS: Final = 1_000_000
"""In a second. All times in Redis are whole microseconds since 1970 by its own clock."""

SILENT_S: Final = 30.0
"""A worker that has not reported for this long counts as dead, unless it reports rarely; see `silence_s`."""
_FORGOTTEN_S: Final = 300.0
"""Older reports of workers are ignored; they are removed by the next sweep of any worker."""
_OLDEST: Final = 100
"""How many of the oldest jobs are examined to find one that was put back."""


def silence_s(sweep_s: float) -> float:
    """Return after how much silence a worker that reports every `sweep_s` seconds counts as dead."""
    return max(SILENT_S, 3 * sweep_s)


class JobReader:
    """Reads the ledger and changes nothing; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    keys : Keys
    silent_s : float
        A worker that has not reported for this long does not count.
    """

    def __init__(self, port: RedisPort, *, keys: Keys = DEFAULT_KEYS, silent_s: float = SILENT_S) -> None:
        self._port = port
        self._silent_s = silent_s
        self._keys = keys
        self._prefix = keys.prefix

    def close(self) -> None:
        """Close the connections."""
        self._port.close()

    def get(self, job_id: str) -> Job:
        """Return one job.

        Raises
        ------
        UnknownJob
            There is no such job, or its record has expired.
        QueueUnavailable
            Redis is away.
        """
        job = self.get_many([job_id])[0]
        if job is None:
            raise UnknownJob(f"no job has the id {job_id!r}, or its record has expired")
        return job

    def get_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return jobs in the order of `job_ids`, None for those that are unknown; raises QueueUnavailable."""
        if not job_ids:
            return []
        answers = self._port.read([("HGETALL", f"{self._prefix}job:{job_id}") for job_id in job_ids])
        return [
            _to_job(job_id, answer) if answer else None
            for job_id, answer in zip(job_ids, answers, strict=True)
        ]

    def list(self, state: JobState | None = None, cursor: str | None = None, limit: int = 100) -> JobPage:
        """Return a page of jobs, the oldest first.

        Queued, running and all jobs (`state` None) are in the order in which they were accepted, done and
        failed ones in the order in which they became final. So the list of failed jobs can be followed with
        the last cursor: nothing appears before it.

        Parameters
        ----------
        state : JobState or None
        cursor : str or None
            The `next_cursor` of an earlier page: decimal digits, which the caller checks.
        limit : int
            At least 1.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        key = f"{self._prefix}jobs" if state is None else f"{self._prefix}jobs:{state.value}"
        after = "-inf" if cursor is None else f"({int(cursor)}"
        query: Command = ("ZRANGEBYSCORE", key, after, "+inf", "WITHSCORES", "LIMIT", 0, limit)
        rows = self._port.read([query])[0]
        found = [(row[0].decode(), int(float(row[1]))) for row in rows]
        jobs = [job for job in self.get_many([job_id for job_id, _ in found]) if job is not None]
        if state is not None:  # it may have moved on between the two reads
            jobs = [job for job in jobs if job.state is state]
        return JobPage(jobs, str(found[-1][1]) if found else cursor)

    def depth(self) -> Depth:
        """Return how much the queue holds; raises QueueUnavailable."""
        prefix = self._prefix
        queued, interactive, running, failed, held, oldest_queued, oldest_running, time = self._port.read(
            [
                ("ZCARD", f"{prefix}jobs:queued"),
                ("ZCARD", f"{prefix}lane:interactive"),
                ("ZCARD", f"{prefix}jobs:running"),
                ("ZCARD", f"{prefix}jobs:failed"),
                ("GET", f"{prefix}bytes"),
                ("ZRANGE", f"{prefix}jobs:queued", 0, 0, "WITHSCORES"),
                ("ZRANGE", f"{prefix}jobs:running", 0, 0, "WITHSCORES"),
                ("TIME",),
            ]
        )
        now_s = int(time[0]) + int(time[1]) / MICROSECONDS
        accepted_s = [float(row[1]) / MICROSECONDS for row in (*oldest_queued, *oldest_running)]
        oldest_s = max(0.0, now_s - min(accepted_s)) if accepted_s else 0.0
        return Depth(queued, running, failed, int(held or 0), oldest_s, interactive)

    def lanes(self) -> dict[str, tuple[int, float]]:
        """Return for each lane how many jobs wait in it and the age of the oldest; raises QueueUnavailable.

        "later" has the jobs that were put back and may not be claimed yet; they go into a lane when they are
        due. The age of the oldest of them may be too high.

        Ages are seconds since acceptance, by the revision: too low for jobs accepted while a clock was ahead.
        """
        names = [*Lane, "suspect"]
        keys = [f"{self._prefix}lane:{name}" for name in names]
        counts = [("ZCARD", key) for key in keys]
        firsts = [("ZRANGE", key, 0, 0, "WITHSCORES") for key in keys]
        *rows, later, time = self._port.read([*counts, *firsts, ("ZCARD", f"{self._prefix}later"), ("TIME",)])
        oldest = [row[0] if row else None for row in rows[len(keys) :]]
        oldest.append(self._oldest_put_back() if later else None)
        now_s = int(time[0]) + int(time[1]) / MICROSECONDS
        ages_s = [max(0.0, now_s - float(one[1]) / MICROSECONDS) if one else 0.0 for one in oldest]
        counted = [*rows[: len(keys)], later]
        return {
            str(name): (count, age_s)
            for name, count, age_s in zip([*names, "later"], counted, ages_s, strict=True)
        }

    def _oldest_put_back(self) -> tuple[bytes, float] | None:
        """Return the oldest job that was put back, or an older one, with its revision.

        Redis orders those jobs by the time at which they are due, so the oldest jobs of all are examined:
        while the store is away those were put back.
        """
        query: Command = ("ZRANGE", f"{self._prefix}jobs:queued", 0, _OLDEST - 1, "WITHSCORES")
        rows = self._port.read([query])[0]
        if not rows:
            return None
        dues = self._port.read([("ZSCORE", f"{self._prefix}later", job_id) for job_id, _ in rows])
        job_id, revision = next(
            (row for row, due in zip(rows, dues, strict=True) if due is not None), rows[-1]
        )
        return job_id, float(revision)

    def stages(self) -> dict[str, StageTotals]:
        """Return what all workers spent on each stage of their work; raises QueueUnavailable."""
        return read_stages(self._port, self._keys)

    def workers(self) -> dict[str, float]:
        """Return the workers that reported lately and how many seconds ago; raises QueueUnavailable."""
        rows, time = self._port.read([("ZRANGE", f"{self._prefix}workers", 0, -1, "WITHSCORES"), ("TIME",)])
        now_s = int(time[0]) + int(time[1]) / MICROSECONDS
        ages_s = {row[0].decode(): max(0.0, now_s - float(row[1]) / MICROSECONDS) for row in rows}
        limit_s = max(_FORGOTTEN_S, self._silent_s)
        return {name: age_s for name, age_s in ages_s.items() if age_s < limit_s}

    def count_workers(self) -> int:
        """Return how many workers are alive; raises QueueUnavailable."""
        return sum(age_s < self._silent_s for age_s in self.workers().values())


def _to_job(job_id: str, answer: dict[bytes, bytes]) -> Job:
    """Return the job whose hash in Redis is `answer`, which must not be empty."""
    fields = {name.decode(): value for name, value in answer.items()}
    signature = fields.get("signature")
    reason = fields.get("reason")
    seq = fields.get("seq")
    source = fields.get("source")
    return Job(
        job_id=job_id,
        image_id=int(fields["image_id"]),
        kind=JobKind(fields["kind"].decode()),
        state=JobState(fields["state"].decode()),
        revision=int(fields["revision"]),
        attempts=int(fields.get("attempts", b"0")),
        reason=reason.decode() if reason is not None else None,
        error=fields.get("error", b"").decode(),
        signature=codec.from_bytes(signature) if signature else None,
        seq=int(seq) if seq else None,
        source=source.decode() if source is not None else None,
        is_damaged="damaged" in fields,
    )
