"""The ledger as those see it who only look: what became of jobs, how many wait, which workers are there."""

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
"""Per second; all times in Redis are whole microseconds since 1970 by its own clock."""


class JobReader:
    """Reads the ledger and changes nothing; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    keys : Keys
    """

    def __init__(self, port: RedisPort, *, keys: Keys = DEFAULT_KEYS) -> None:
        self._port = port
        self._keys = keys
        self._prefix = keys.prefix

    def close(self) -> None:
        """Close the connections."""
        self._port.close()

    def ping(self) -> None:
        """Return if Redis answers; raises QueueUnavailable."""
        self._port.read([("PING",)])

    def get(self, job_id: str) -> Job:
        """Return one job.

        Raises
        ------
        UnknownJob
            There is none, or its record has expired.
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

    def list(
        self,
        state: JobState | None = None,
        cursor: str | None = None,
        limit: int = 100,
        *,
        is_newest_first: bool = False,
    ) -> JobPage:
        """Return a page of jobs.

        Queued, running and all jobs (`state` None) are in the order in which they were accepted; done and
        failed ones in the order in which they became so. Read oldest first, a list of failed jobs can
        therefore be followed for ever with the last cursor: nothing appears before it.

        Parameters
        ----------
        state : JobState or None
        cursor : str or None
            The `next_cursor` of a page before: decimal digits, which the caller checks.
        limit : int
            At least 1.
        is_newest_first : bool

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        key = f"{self._prefix}jobs" if state is None else f"{self._prefix}jobs:{state.value}"
        after = f"({int(cursor)}" if cursor is not None else None
        if is_newest_first:
            query: Command = (
                "ZREVRANGEBYSCORE",
                key,
                after or "+inf",
                "-inf",
                "WITHSCORES",
                "LIMIT",
                0,
                limit,
            )
        else:
            query = ("ZRANGEBYSCORE", key, after or "-inf", "+inf", "WITHSCORES", "LIMIT", 0, limit)
        rows = self._port.read([query])[0]
        found = [(row[0].decode(), int(float(row[1]))) for row in rows]
        jobs = [job for job in self.get_many([job_id for job_id, _ in found]) if job is not None]
        if state is not None:  # it may have moved on between the two reads
            jobs = [job for job in jobs if job.state is state]
        is_last = len(found) < limit
        if is_last and (is_newest_first or not found):
            return JobPage(jobs, None if is_newest_first or cursor is None else cursor)
        return JobPage(jobs, str(found[-1][1]))

    def depth(self) -> Depth:
        """Return how much is waiting; raises QueueUnavailable."""
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
        """Return of each lane how many jobs wait in it and the age of the oldest; raises QueueUnavailable.

        Ages are seconds since acceptance by the revision, which is a clock as long as nobody set it forward.
        """
        names = [*Lane, "suspect"]
        keys = [f"{self._prefix}lane:{name}" for name in names]
        counts = [("ZCARD", key) for key in keys]
        firsts = [("ZRANGE", key, 0, 0, "WITHSCORES") for key in keys]
        *rows, time = self._port.read([*counts, *firsts, ("TIME",)])
        now_s = int(time[0]) + int(time[1]) / MICROSECONDS
        ages_s = [
            max(0.0, now_s - float(row[0][1]) / MICROSECONDS) if row else 0.0 for row in rows[len(keys) :]
        ]
        return {str(name): (row, age_s) for name, row, age_s in zip(names, rows, ages_s, strict=False)}

    def stages(self) -> dict[str, StageTotals]:
        """Return what all workers spent on each stage of their work; raises QueueUnavailable."""
        return read_stages(self._port, self._keys)

    def workers(self) -> dict[str, float]:
        """Return the workers heard of lately and how many seconds ago; raises QueueUnavailable."""
        rows, time = self._port.read([("ZRANGE", f"{self._prefix}workers", 0, -1, "WITHSCORES"), ("TIME",)])
        now_s = int(time[0]) + int(time[1]) / MICROSECONDS
        return {row[0].decode(): max(0.0, now_s - float(row[1]) / MICROSECONDS) for row in rows}


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
        created_s=int(fields["created"]) / MICROSECONDS,
        updated_s=int(fields.get("updated", fields["created"])) / MICROSECONDS,
        source=source.decode() if source is not None else None,
        is_damaged="damaged" in fields,
    )
