"""The api's side of the ledger: accepts submissions and gives them revisions.

Never sends a Celery message (the caller does, afterwards; the sweep replaces those that are not sent) and
never touches the store. `WorkLedger` is the worker's side of the same records, `JobReader` reads them.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from iqdb_core.errors import ForeignQueue, QueueFull, QueueRefused, QueueUnavailable
from iqdb_core.jobs.connection import Command, RedisPort
from iqdb_core.jobs.headroom import FULL, ROOM, Headroom, RedisFull, drained_s, retry_after_s
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys
from iqdb_core.jobs.model import Acceptance, Accepted, JobKind, Lane, Submission
from iqdb_core.jobs.reading import SILENT_S, JobReader
from iqdb_core.jobs.refusals import Refusals
from iqdb_core.jobs.rights import CheckedScripts
from iqdb_core.jobs.scripts import ACCEPT, SEED, check_countable

_log = logging.getLogger(__name__)

_STAGING_S: Final = 900
"""Time to live of a payload that was sent but never accepted, because its api process died in between."""
_PIECE_BYTES: Final = 4 * 1024 * 1024
"""Payloads of a large batch go in pieces of about this size. Redis flushes its file once for each of them,
does nothing else meanwhile, and needs memory for another copy or two."""
_RESERVE_PERCENT: Final = 5
"""How much more the queue takes of interactive jobs: a crawler that fills it locks nobody out."""
_RECORD_BYTES: Final = 1024
"""About what Redis needs for a job besides its payload."""


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

    @property
    def reserved_jobs(self) -> int:
        """How many interactive jobs fit into a queue that is full of bulk jobs."""
        return max(1, self.max_jobs * _RESERVE_PERCENT // 100)

    def refusal(self, jobs: int, held: int, jobs_per_s: float, bytes_per_s: float) -> QueueFull:
        """Return the error for a queue that holds `jobs` with `held` bytes and drains at these rates."""
        waits = [
            drained_s(over, limit, rate)
            for over, limit, rate in (
                (jobs - self.max_jobs, self.max_jobs, jobs_per_s),
                (held - self.max_bytes, self.max_bytes, bytes_per_s),
            )
            if over > -ROOM * limit
        ]
        return QueueFull(jobs, self.max_jobs, held, self.max_bytes, retry_after_s(waits))


class JobLedger(JobReader):
    """The api's side of the ledger; safe to use from several threads.

    Parameters
    ----------
    port : RedisPort
    limits : QueueLimits
    revision_floor : callable, optional
        Returns the highest revision in the store (`SignatureStore.max_revision`). Asked by `seed`, and again
        whenever Redis has lost its clock or another server answers; without it a lost clock is an error,
        never a guess.
    store_id : callable, optional
        Returns the id of the store that the jobs are for; called after `revision_floor`.
    keys : Keys
    silent_s : float
        See `JobReader`.

    Attributes
    ----------
    limits : QueueLimits
    risk : str
        Why what is accepted may be lost; '' if nothing is known to be wrong.
    """

    def __init__(
        self,
        port: RedisPort,
        *,
        limits: QueueLimits = QueueLimits(),
        revision_floor: Callable[[], int] | None = None,
        store_id: Callable[[], str] = str,
        keys: Keys = DEFAULT_KEYS,
        silent_s: float = SILENT_S,
    ) -> None:
        super().__init__(port, keys=keys, silent_s=silent_s)
        self.limits = limits
        self._revision_floor = revision_floor
        self._read_store_id = store_id
        self._store_id = ""
        self._lock = threading.Lock()
        self._last_revision = 0
        self._breaks = 0
        self._run_id = ""
        self.risk = ""
        self._headroom = Headroom(port)
        self._scripts = CheckedScripts(port, keys.prefix, in_transactions=True)
        self._refusals = Refusals()

    @property
    def store_id(self) -> str:
        """Id of the store that the jobs are for; empty until the store was asked."""
        return self._store_id

    @property
    def most_bytes(self) -> int:
        """The largest payload that an empty queue, in an empty Redis, has room for."""
        return int(min(self.limits.max_bytes, self._headroom.most_bytes()))

    @property
    def refusal(self) -> QueueRefused | None:
        """Why Redis refused the last jobs although it answers; None if it did not."""
        return self._refusals.last

    # The clock of revisions.

    def seed_revision_floor(self, revision: int) -> None:
        """Make every later revision higher than `revision`; a clock that is ahead already stays.

        Raises
        ------
        QueueUnavailable
            Redis is away.
        ForeignQueue
            The queue holds jobs of another store.
        StoreInvalid
            See `check_countable`.
        """
        floor = max(revision, self._last_revision)
        check_countable(floor)
        if self._scripts.run(SEED, floor, self._store_id) != b"ok":
            raise ForeignQueue(self._prefix)

    def seed(self) -> None:
        """Seed the clock from the store; every api process does so at its start.

        Raises
        ------
        QueueUnavailable
            Redis is away or forgets keys when it is full, or the clock is lost and there is no
            `revision_floor`.
        ForeignQueue
            The queue holds jobs of another store.
        StoreUnavailable, StoreInvalid
            The store is away; see `seed_revision_floor`.
        """
        if self._revision_floor is None:
            raise QueueUnavailable("the clock of revisions is lost and has to be seeded from the store")
        with self._refusals.noted():
            self._seed(self._revision_floor)
        self._refusals.end()

    def _seed(self, revision_floor: Callable[[], int]) -> None:
        floor = revision_floor()
        self._store_id = self._read_store_id()
        self._run_id = self._port.run_id()  # before: a server that takes over from here on must be noticed
        self._note_risk()
        self.seed_revision_floor(floor)
        # Last: a caller that goes on accepting although this raises must know whose queue it is.
        self._headroom.shortage(0, 1.0)

    def _note_risk(self) -> None:
        risk = "" if self._port.keeps_log() else "it keeps no append-only file; set appendonly yes"
        if risk and not self.risk:
            _log.warning(
                "accepted jobs are lost if Redis ends: %s", risk, extra={"action": "queue_not_durable"}
            )
        self.risk = risk

    def _reseed_after_break(self) -> None:
        """Seed again if a connection broke since the last call and another server answers now."""
        breaks = self._port.breaks
        if breaks != self._breaks:
            self._reseed_if_replaced()
            self._breaks = breaks

    def _reseed_if_replaced(self) -> None:
        """Seed again if another server answers than the one that was seeded.

        A replica that took over, or a server that came back from its disk, may lack the newest revisions.
        """
        if self._run_id and self._port.run_id() != self._run_id:
            self.seed()

    def _remember(self, revision: int) -> None:
        with self._lock:
            self._last_revision = max(self._last_revision, revision)

    # Accepting.

    def accept(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Accept all submissions or none of them, as `accept_all`, and return the jobs alone."""
        return self.accept_all(submissions).jobs

    def accept_all(self, submissions: Sequence[Submission]) -> Acceptance:
        """Accept all submissions or none of them; on return they are durable.

        Payloads are sent first, under keys that expire by themselves; then one script checks the limits,
        allots consecutive revisions in the order of `submissions`, and makes payloads and records permanent
        together. The caller then sends as many messages as are missing.

        Parameters
        ----------
        submissions : sequence of Submission
            At most 1000 of them.

        Returns
        -------
        Acceptance
            Its jobs in the order of `submissions`.

        Raises
        ------
        QueueFull
            With these the queue would hold more than its limits, or Redis would be nearly full.
        QueueUnavailable, ForeignQueue, StoreUnavailable, StoreInvalid
            As in `seed`.
        """
        if not submissions:
            return Acceptance([], 0, 0, 0)
        try:
            with self._refusals.noted():
                accepted = self._accept_all(submissions)
        except QueueFull:
            self._check_refusal()
            raise
        self._refusals.end()
        return accepted

    def _accept_all(self, submissions: Sequence[Submission]) -> Acceptance:
        job_ids = [secrets.token_hex(12) for _ in submissions]
        size = sum(len(submission.payload) + _RECORD_BYTES for submission in submissions)
        is_waited_for = all(submission.lane is Lane.INTERACTIVE for submission in submissions)
        largest = max(len(submission.payload) for submission in submissions)
        copied = max(largest, min(size, _PIECE_BYTES))
        self._check_memory(size + copied, _room(is_waited_for))
        answer = self._offer(submissions, job_ids)
        if answer[0] == b"unseeded":
            self.seed()
            answer = self._offer(submissions, job_ids)
        if answer[0] == b"full":
            raise self.limits.refusal(int(answer[1]), int(answer[2]), float(answer[3]), float(answer[4]))
        if answer[0] == b"foreign":
            raise ForeignQueue(self._prefix)
        if answer[0] != b"ok":
            raise QueueUnavailable("Redis could not take the payloads")
        revisions = [int(revision) for revision in answer[4:]]
        self._remember(revisions[-1])
        self._headroom.add(size)
        jobs = [
            Accepted(job_id, submission.image_id, revision)
            for job_id, submission, revision in zip(job_ids, submissions, revisions, strict=True)
        ]
        return Acceptance(jobs, int(answer[1]), int(answer[2]), int(answer[3]))

    def check_capacity(self, jobs: int, payload_bytes: int, lane: Lane) -> tuple[int, int]:
        """Return the jobs and bytes that the queue holds.

        Raises
        ------
        QueueFull
            This much more would be refused now.
        QueueUnavailable
            Redis is away.
        """
        try:
            return self._checked_capacity(jobs, payload_bytes, _room(lane is Lane.INTERACTIVE))
        except QueueFull:
            self._check_refusal()
            raise

    def _check_refusal(self) -> None:
        """Check whether Redis still refuses: a full queue accepts nothing that would show it."""
        if self._refusals.last is None or isinstance(self._refusals.last, ForeignQueue):
            return
        with suppress(QueueUnavailable):
            with self._refusals.noted():
                self._scripts.check()
            self._refusals.end()

    def _checked_capacity(self, jobs: int, payload_bytes: int, room: float) -> tuple[int, int]:
        with self._refusals.noted():
            self._check_memory(payload_bytes, room)
        held_jobs, held, jobs_per_s, bytes_per_s = self._figures()
        limits = self.limits
        if held_jobs + jobs > limits.max_jobs * room or held + payload_bytes > limits.max_bytes * room:
            raise limits.refusal(held_jobs, held, jobs_per_s, bytes_per_s)
        return held_jobs, held

    def _check_memory(self, payload_bytes: int, room: float) -> None:
        """Raise QueueFull if Redis has no memory for this many more bytes; may raise QueueUnavailable."""
        shortage = self._headroom.shortage(payload_bytes, room)
        if shortage is None:
            return
        used, most = shortage
        jobs, held, _, bytes_per_s = self._figures()
        wait_s = retry_after_s([drained_s(used - FULL * most, most, bytes_per_s)])
        limits = self.limits
        raise RedisFull(used, most, (jobs, limits.max_jobs, held, limits.max_bytes), wait_s)

    def _figures(self) -> tuple[int, int, float, float]:
        """Return the jobs and bytes that the queue holds, and how many of each are done per second."""
        queued, running, held, drain = self._port.read(
            [
                ("ZCARD", f"{self._prefix}jobs:queued"),
                ("ZCARD", f"{self._prefix}jobs:running"),
                ("GET", f"{self._prefix}bytes"),
                ("HMGET", f"{self._prefix}drain", "jobs_per_s", "bytes_per_s"),
            ]
        )
        return queued + running, int(held or 0), float(drain[0] or 0), float(drain[1] or 0)

    def _offer(self, submissions: Sequence[Submission], job_ids: Sequence[str]) -> list[Any]:
        pieces: list[list[Command]] = [[]]
        size = 0
        records: list[str | int] = []
        for job_id, submission in zip(job_ids, submissions, strict=True):
            length = len(submission.payload)
            records += [job_id, submission.kind.value, submission.lane.value, submission.image_id, length]
            records += [submission.source or "", "1" if submission.if_absent else ""]
            if submission.kind is JobKind.DELETE:
                continue
            if size and size + length > _PIECE_BYTES:
                pieces.append([])
                size = 0
            size += length
            key = f"{self._prefix}staged:{job_id}"
            pieces[-1].append(("SET", key, submission.payload, "EX", _STAGING_S))
        for piece in pieces[:-1]:
            self._port.read(piece, is_whole=True)
        self._reseed_after_break()  # now: the payloads may have gone to another server than the last jobs
        answer: list[Any] = self._scripts.run(
            ACCEPT,
            self.limits.max_jobs,
            self.limits.max_bytes,
            _RESERVE_PERCENT,
            self._store_id,
            self._last_revision,
            self._keys.queue,
            *records,
            before=pieces[-1],
            before_repeating=self._reseed_if_replaced,
        )
        return answer


def _room(is_waited_for: bool) -> float:
    """Return how much of its limits the queue may take, as a factor."""
    return 1 + _RESERVE_PERCENT / 100 if is_waited_for else 1.0
