"""What happens to a chunk of jobs: decode, one transaction for all, then the final word on each.

Knows no Celery: `worker.tasks` calls `handle`, tests call it too. The order of its steps is chosen so that a
process that is killed at any point loses nothing: payloads go only after the commit, and a job that was
committed but not finished is committed again, which the store drops as stale.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from iqdb_core import codec
from iqdb_core.errors import IqdbError
from iqdb_core.jobs import Done, Failed, JobKind, StartedJob, WorkLedger
from iqdb_core.model import Signature, Write, WriteOutcome

logger = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_FIRST_DELAY_S = 2.0
_LONGEST_DELAY_S = 60.0


class Store(Protocol):
    """The part of the signature store that a worker needs."""

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        """Commit `writes` in one transaction."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a handler spends its time; all of it must fit into the task's time limit.

    Parameters
    ----------
    budget_s : float
        After so long no further image of the chunk is begun; the rest is put back.
    retry_s : float
        How long one chunk waits for a store or a ledger that is away before it is put back.
    max_attempts : int
        Tries that ended their process after which an image is set aside.
    """

    budget_s: float = 11.0
    retry_s: float = 11.0
    max_attempts: int = 3


class IngestHandler:
    """Turn accepted jobs into committed images. One per process; not for several threads.

    Parameters
    ----------
    ledger : WorkLedger
    open_store : callable
        Returns the store, opened at the first call; raises StoreUnavailable while that is impossible.
    hash_image : callable
        Bytes of an image file to its Signature; raises ImageError.
    patience : Patience
    now, sleep, chance : callable
        Monotonic seconds, waiting, and a random number of 0..1.
    """

    def __init__(
        self,
        *,
        ledger: WorkLedger,
        open_store: Callable[[], Store],
        hash_image: Callable[[bytes], Signature],
        patience: Patience = Patience(),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._open_store = open_store
        self._hash_image = hash_image
        self._patience = patience
        self._now = now
        self._sleep = sleep
        self._chance = chance

    def handle(self, job_ids: Sequence[str]) -> None:
        """Work on jobs until each is final or put back; those that are final already are left alone.

        Jobs that did not come back from an earlier try are done last, each in a transaction of its own: if
        one ends this process again, the others are committed already.

        Raises
        ------
        QueueUnavailable
            Redis stayed away; the jobs are delivered again or found by the sweep.
        """
        end = self._now() + self._patience.budget_s
        jobs = self._patiently(lambda: self._ledger.start(job_ids))
        self._work([job for job in jobs if not job.attempts], end)
        for job in jobs:
            if job.attempts:
                self._work([job], end)

    def _work(self, jobs: Sequence[StartedJob], end: float) -> None:
        round_ = _Round()
        for job in jobs:
            if self._now() > end:
                round_.left.append(job)
            else:
                self._hash(job, round_)
        last = round_.came_through
        if last is not None:
            self._patiently(lambda: self._ledger.hashed(last))
        if round_.left:
            self._release(round_.left, 0)
        if round_.broken:
            self._put_back(round_.broken)
        self._commit(round_)

    def _hash(self, job: StartedJob, round_: _Round) -> None:
        """Decode one job, leaving the result in `round_`."""
        if job.kind is JobKind.DELETE:
            round_.hashed.append((job, None))
            return
        if job.attempts >= self._patience.max_attempts:
            reason = f"set aside: the process that decoded it ended {job.attempts} times"
            round_.failed.append(Failed(job.job_id, reason))
            return
        payload = self._patiently(lambda: self._ledger.begin(job, after=round_.came_through))
        round_.came_through = None
        if payload is None:  # finished by another worker after a redelivery
            return
        try:
            if not payload:
                round_.failed.append(Failed(job.job_id, "its bytes are empty or were lost"))
            elif job.kind is JobKind.SIGNATURE:
                round_.hashed.append((job, codec.from_bytes(payload)))
            else:
                round_.hashed.append((job, self._hash_image(payload)))
        except IqdbError as error:
            round_.failed.append(Failed(job.job_id, str(error), type(error).__name__))
        except Exception:
            # A fault of ours or of the decoder, or memory that ran out. It counts like a killed process:
            # another try may succeed, and the blame stays until then.
            logger.exception("job %s of image %s could not be decoded", job.job_id, job.image_id)
            round_.broken.append(job)
            return
        round_.came_through = job

    def _commit(self, round_: _Round) -> None:
        finished: list[Done | Failed] = list(round_.failed)
        if round_.hashed:
            writes = [Write(job.image_id, job.revision, signature) for job, signature in round_.hashed]
            try:
                outcomes = self._patiently(lambda: self._open_store().apply(writes))
            except IqdbError as error:
                logger.warning("%s jobs put back, their images cannot be stored now: %s", len(writes), error)
                self._put_back([job for job, _ in round_.hashed])
            else:
                finished += [
                    Done(job.job_id, outcome.seq, signature)
                    for (job, signature), outcome in zip(round_.hashed, outcomes, strict=True)
                ]
        self._patiently(lambda: self._ledger.finish(finished))

    def _put_back(self, jobs: Sequence[StartedJob]) -> None:
        longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(max(job.deferrals for job in jobs), 10))
        self._release(jobs, longest * (0.5 + self._chance() / 2))

    def _release(self, jobs: Sequence[StartedJob], delay_s: float) -> None:
        self._patiently(lambda: self._ledger.release([job.job_id for job in jobs], delay_s))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, as long as its errors are of the kind that heals and time is left."""
        pause = _FIRST_PAUSE_S
        end = self._now() + self._patience.retry_s
        while True:
            try:
                return call()
            except IqdbError as error:
                wait = pause * (0.5 + self._chance() / 2)
                if not error.retryable or self._now() + wait > end:
                    raise
                logger.warning("trying again in %.1f s: %s", wait, error)
                self._sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE_S)


class _Round:
    """What has become of the jobs of one transaction so far."""

    def __init__(self) -> None:
        self.hashed: list[tuple[StartedJob, Signature | None]] = []
        self.failed: list[Failed] = []
        self.broken: list[StartedJob] = []
        self.left: list[StartedJob] = []
        self.came_through: StartedJob | None = None
