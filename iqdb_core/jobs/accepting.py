"""The ledger as the api sees it: accept submissions, hand out revisions; what became of jobs is in `reading`.

Never sends a Celery message (whoever accepts does that afterwards; the sweep finds what was not sent) and
never touches the store. `WorkLedger` is the worker's side of the same records.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from iqdb_core.errors import QueueFull, QueueUnavailable
from iqdb_core.jobs.connection import Command, RedisPort
from iqdb_core.jobs.keys import KEY_PREFIX
from iqdb_core.jobs.model import Accepted, JobKind, Submission
from iqdb_core.jobs.reading import JobReader
from iqdb_core.jobs.scripts import ACCEPT, NEXT_REVISION, SEED

_STAGING_S: Final = 900
"""How long a payload lives that was sent but never accepted, because its api process died in between."""
_PIECE_BYTES: Final = 16 * 1024 * 1024
"""Payloads of a large batch go in pieces of about this size, each well within the timeout of a slow disk."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What the queue may hold before it refuses; jobs that are final do not count.

    Parameters
    ----------
    max_jobs : int
    max_bytes : int
        Payload bytes. Keep it well below Redis's maxmemory: messages, records and payloads on their way need
        room too.
    """

    max_jobs: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024


class JobLedger(JobReader):
    """The api's side of the ledger; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    limits : QueueLimits
    revision_floor : callable, optional
        Returns the highest revision in the store (`SignatureStore.max_revision`). Asked once by `seed`, and
        again whenever Redis has lost its clock; without it a lost clock is an error, never a guess.
    prefix : str
        Of every key.
    """

    def __init__(
        self,
        port: RedisPort,
        *,
        limits: QueueLimits = QueueLimits(),
        revision_floor: Callable[[], int] | None = None,
        prefix: str = KEY_PREFIX,
    ) -> None:
        super().__init__(port, prefix=prefix)
        self._limits = limits
        self._revision_floor = revision_floor

    # The clock of revisions.

    def seed_revision_floor(self, revision: int) -> None:
        """Make every later revision higher than `revision`; a clock that is ahead already stays.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        """
        self._port.run(SEED, self._prefix, revision)

    def seed(self) -> None:
        """Seed the clock from the store; every api process does so at its start.

        Raises
        ------
        QueueUnavailable
            Redis is away, or the clock is lost and nobody was named who knows the store's revisions.
        StoreUnavailable
            The store is away.
        """
        if self._revision_floor is None:
            raise QueueUnavailable("the clock of revisions is lost and has to be seeded from the store")
        self.seed_revision_floor(self._revision_floor())

    def next_revision(self) -> int:
        """Give out one revision, for a write that does not go through the queue.

        Returns
        -------
        int
            Microseconds; higher than every revision given out before, whatever Redis has lost.

        Raises
        ------
        QueueUnavailable, StoreUnavailable
            As in `seed`.
        """
        answer = self._port.run(NEXT_REVISION, self._prefix)
        if answer is None:
            self.seed()
            answer = self._port.run(NEXT_REVISION, self._prefix)
        if answer is None:
            raise QueueUnavailable("Redis lost the clock of revisions again")
        return int(answer)

    # Accepting.

    def accept(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Accept all submissions or none of them; on return they are not lost any more.

        Payloads travel first, under keys that expire by themselves; then one script checks the limits, allots
        consecutive revisions in the order of `submissions`, and makes payloads and records permanent
        together. The caller then sends the job ids to the queue.

        Parameters
        ----------
        submissions : sequence of Submission
            1..1000 of them.

        Returns
        -------
        list of Accepted
            In the order of `submissions`.

        Raises
        ------
        QueueFull
            With these the queue would hold more than its limits.
        QueueUnavailable, StoreUnavailable
            As in `seed`.
        """
        if not submissions:
            return []
        job_ids = [secrets.token_hex(12) for _ in submissions]
        answer = self._offer(submissions, job_ids)
        if answer[0] == b"unseeded":
            self.seed()
            answer = self._offer(submissions, job_ids)
        if answer[0] == b"full":
            raise QueueFull(int(answer[1]), self._limits.max_jobs, int(answer[2]), self._limits.max_bytes)
        if answer[0] != b"ok":
            raise QueueUnavailable("Redis could not take the payloads")
        return [
            Accepted(job_id, submission.image_id, int(revision))
            for job_id, submission, revision in zip(job_ids, submissions, answer[1:], strict=True)
        ]

    def _offer(self, submissions: Sequence[Submission], job_ids: Sequence[str]) -> list[bytes]:
        pieces: list[list[Command]] = [[]]
        size = 0
        records: list[str | int] = []
        for job_id, submission in zip(job_ids, submissions, strict=True):
            length = len(submission.payload)
            records += [job_id, submission.kind.value, submission.image_id, length]
            if submission.kind is JobKind.DELETE:
                continue
            if size and size + length > _PIECE_BYTES:
                pieces.append([])
                size = 0
            size += length
            key = f"{self._prefix}payload:{job_id}"
            pieces[-1].append(("SET", key, submission.payload, "EX", _STAGING_S))
        for piece in pieces[:-1]:
            self._port.read(piece)
        limits = (self._limits.max_jobs, self._limits.max_bytes)
        answer: list[bytes] = self._port.run(ACCEPT, self._prefix, *limits, *records, before=pieces[-1])
        return answer
