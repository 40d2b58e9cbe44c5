"""What a worker process does: claims jobs, decodes their images, commits them together, ends the claim.

Knows no Celery: `worker.tasks` calls `handle`, tests call it too. The order of its steps is chosen so that a
process that is killed at any point loses nothing: payloads go only after the commit, and a job that was
committed but not finished is committed again, which the store drops as stale.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from iqdb_core import codec
from iqdb_core.errors import ImageExists, IqdbError, JobLost
from iqdb_core.jobs import Claim, ClaimedJob, Done, Failed, Idling, JobKind, PutBack, WorkLedger
from iqdb_core.jobs.messages import CLAIM_JOBS
from iqdb_core.model import Signature, Write, WriteOutcome
from iqdb_core.signature import ReadImage

log = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 3.0
_FIRST_DELAY_S: Final = 2.0
_LONGEST_DELAY_S: Final = 60.0
_CLAIM_S: Final = 0.4
"""How long a claim should take: a client that waits for one image waits for its whole claim, and perhaps for
the one before."""


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """How long a handler works on one task, and when it gives up; all must fit into the task's time limit.

    Parameters
    ----------
    round_s : float
        After this long nothing more is claimed, so that tasks end regularly, and a worker that is told to
        stop does so soon.
    budget_s : float
        After this long no further image of a claim is begun; the rest is put back.
    retry_s : float
        How long one claim waits for a store or a ledger that is away before it is put back.
    max_attempts : int
        Claims that ended their process after which an image is set aside.
    idling : Idling or None
        How to wait for jobs when there are none, or few; None ends the round instead.
    """

    round_s: float = 2.0
    budget_s: float = 11.0
    retry_s: float = 11.0
    max_attempts: int = 3
    idling: Idling | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """What a job writes: a signature, or None to delete."""

    signature: Signature | None
    is_damaged: bool = False


_Hashed = tuple[ClaimedJob, _Read]
_Outcome = Done | Failed | PutBack


class IngestHandler:
    """Turn accepted jobs into committed images. One per process; not for several threads.

    Parameters
    ----------
    ledger : WorkLedger
    apply : callable
        Commits writes in one transaction, as `SignatureStore.apply`.
    read_image : callable
        Returns the signature of an image file, and whether it is damaged; raises ImageError.
    limits : TaskLimits
    now, sleep, chance : callable
        Return monotonic seconds, wait, and return a random number in 0..1.
    """

    def __init__(
        self,
        *,
        ledger: WorkLedger,
        apply: Callable[[Sequence[Write]], list[WriteOutcome]],
        read_image: Callable[[bytes], ReadImage],
        limits: TaskLimits = TaskLimits(),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._apply = apply
        self._read_image = read_image
        self._limits = limits
        self._now = now
        self._sleep = sleep
        self._chance = chance
        self._image_s = 0.0
        self._is_store_well = False
        """Whether the last commit succeeded, of whatever."""

    def handle(self) -> int:
        """Claim and work until nothing waits any more or the time of a round is over.

        One script ends a claim and makes the next one, so a separate claim is needed only at the beginning
        and after a wait.

        Returns
        -------
        int
            About how many jobs still wait to be claimed.

        Raises
        ------
        QueueUnavailable
            Redis stayed away; what was claimed is claimed again when its lease runs out.
        StoreUnavailable
            The store could not be opened; nothing was claimed.
        """
        end = self._now() + self._limits.round_s
        idling = self._limits.idling
        claim = self._claim(idling)
        while True:
            if not claim.jobs:
                if idling is None:
                    return claim.waiting
                idling = self._after_waiting(claim, end)
                claim = self._claim(idling)
                continue
            outcomes = self._work(claim.jobs)
            if self._now() >= end:
                self._retried(partial(self._ledger.finish, claim, outcomes))
                return claim.waiting + sum(isinstance(outcome, PutBack) for outcome in outcomes)
            idling = self._limits.idling
            claim = self._retried(
                partial(self._ledger.finish_and_claim, claim, outcomes, self._claim_size(), idling)
            )

    def _claim(self, idling: Idling | None) -> Claim:
        return self._retried(partial(self._ledger.claim, self._claim_size(), idling))

    def _after_waiting(self, claim: Claim, end: float) -> Idling | None:
        """Wait for work, and return what to do if there is none after all: None ends the round."""
        idling = self._limits.idling
        if idling is None or not self._ledger.wait(claim, idling) or self._now() >= end:
            return None
        return replace(idling, gather_s=0.0)  # they have gathered by now

    def _claim_size(self) -> int:
        """Return how many jobs to claim, by the pace of the last claims."""
        if self._image_s * CLAIM_JOBS <= _CLAIM_S:
            return CLAIM_JOBS
        return max(1, int(_CLAIM_S / self._image_s))

    def _work(self, jobs: Sequence[ClaimedJob]) -> list[_Outcome]:
        """Decode and commit the jobs of one claim."""
        start = self._now()
        outcomes: list[_Outcome] = []
        hashed: list[_Hashed] = []
        for number, job in enumerate(jobs):
            if self._now() > start + self._limits.budget_s:
                outcomes += [PutBack(one.job_id) for one in jobs[number:]]
                break
            result = self._hash(job)
            if isinstance(result, Failed | PutBack):
                outcomes.append(result)
            else:
                hashed.append((job, result))
        pace_s = (self._now() - start) / len(jobs)
        self._image_s = (self._image_s + pace_s) / 2
        return outcomes + self._commit(hashed)

    def _hash(self, job: ClaimedJob) -> _Read | Failed | PutBack:
        """Return what one job writes, or its outcome if it writes nothing."""
        if job.attempts >= self._limits.max_attempts:
            tries = f"each of {job.attempts} tries ended its process, or could not read or store it"
            log.warning(
                "job %s of image %s is set aside: %s",
                job.job_id,
                job.image_id,
                tries,
                extra={"action": "job_set_aside"},
            )
            return Failed(job.job_id, f"set aside: {tries}")
        try:
            return self._read(job)
        except IqdbError as error:
            if error.retryable:  # memory ran out: this image may be why, so its tries are counted
                log.warning(
                    "job %s of image %s is tried again: %s",
                    job.job_id,
                    job.image_id,
                    error,
                    extra={"action": "job_again"},
                )
                return PutBack(job.job_id, self._delay_s([job]), is_to_blame=True)
            return Failed(job.job_id, str(error), type(error).__name__)
        except Exception:
            # A bug of ours or of the decoder. It counts like a killed process:
            # another try may succeed, and the blame stays until then.
            log.exception(
                "job %s of image %s could not be decoded",
                job.job_id,
                job.image_id,
                extra={"action": "job_undecoded"},
            )
            return PutBack(job.job_id, self._delay_s([job]), is_to_blame=True)

    def _read(self, job: ClaimedJob) -> _Read | Failed:
        if job.kind is JobKind.DELETE:
            return _Read(None)
        if job.payload is None:
            return Failed(job.job_id, "the queue has lost its bytes; send it again", JobLost.__name__)
        if job.kind is JobKind.SIGNATURE:
            return _Read(codec.from_bytes(job.payload))
        image = self._read_image(job.payload)
        return _Read(image.signature, image.is_damaged)

    def _commit(self, hashed: Sequence[_Hashed]) -> list[_Outcome]:
        if not hashed:
            return []
        end = self._now() + self._limits.retry_s
        try:
            return self._stored(hashed, end)
        except Exception as error:
            if _is_retryable(error):
                log.warning(
                    "%s jobs put back, their images cannot be stored now: %s",
                    len(hashed),
                    error,
                    extra={"action": "jobs_put_back"},
                )
                return self._deferred(hashed)
            log.exception("%s jobs could not be stored", len(hashed), extra={"action": "jobs_unstored"})
        if len(hashed) > 1:
            return self._stored_one_by_one(hashed, end)
        was_well, self._is_store_well = self._is_store_well, False
        return self._blamed(hashed) if was_well else self._deferred(hashed)

    def _stored(self, hashed: Sequence[_Hashed], end: float) -> list[_Outcome]:
        """Commit jobs in one transaction, trying until `end`; raises the last error."""
        writes = [
            Write(job.image_id, job.revision, read.signature, job.source, job.if_absent)
            for job, read in hashed
        ]
        outcomes = self._applied(writes, end)
        self._is_store_well = True
        return [
            _to_outcome(job, read, outcome) for (job, read), outcome in zip(hashed, outcomes, strict=True)
        ]

    def _stored_one_by_one(self, hashed: Sequence[_Hashed], end: float) -> list[_Outcome]:
        """Commit jobs one by one, since one of them may keep all from being stored.

        A job that cannot be stored is to blame only if others can: then it is not the store's fault.
        """
        outcomes: list[_Outcome] = []
        failed: list[_Hashed] = []
        left: Sequence[_Hashed] = []
        for number, one in enumerate(hashed):
            try:
                outcomes += self._stored([one], end)
            except Exception as error:
                if _is_retryable(error):
                    left = hashed[number:]
                    break
                log.exception(
                    "job %s of image %s cannot be stored",
                    one[0].job_id,
                    one[0].image_id,
                    extra={"action": "jobs_unstored"},
                )
                failed.append(one)
        self._is_store_well = bool(outcomes)
        return [
            *outcomes,
            *(self._blamed(failed) if outcomes else self._deferred(failed)),
            *self._deferred(left),
        ]

    def _deferred(self, hashed: Sequence[_Hashed]) -> list[_Outcome]:
        delay_s = self._delay_s([job for job, _ in hashed])
        return [PutBack(job.job_id, delay_s, is_deferred=True) for job, _ in hashed]

    def _blamed(self, hashed: Sequence[_Hashed]) -> list[_Outcome]:
        delay_s = self._delay_s([job for job, _ in hashed])
        return [PutBack(job.job_id, delay_s, is_to_blame=True) for job, _ in hashed]

    def _applied(self, writes: Sequence[Write], end: float) -> list[WriteOutcome]:
        """Commit writes; those that are stale only because a clock was ahead get new revisions, and a commit.

        A later write that another worker stores between the two commits is overwritten. That takes several
        writers to one image, within milliseconds, while a clock is ahead.
        """
        outcomes: dict[int, WriteOutcome] = {}
        pending = dict(enumerate(writes))
        while pending:
            done = self._retried(partial(self._apply, list(pending.values())), end)
            outcomes |= zip(pending, done, strict=True)
            met = {
                number: (writes[number], outcomes[number])
                for number in pending
                if outcomes[number].is_stale and not outcomes[number].is_again
            }
            if not met:
                break
            moved = self._retried(partial(self._ledger.renumber, list(met.values())), end)
            pending = {
                number: replace(writes[number], revision=revision)
                for number, revision in zip(met, moved, strict=True)
                if revision is not None
            }
            if pending:
                log.warning(
                    "%s writes met a clock that is ahead, and get new revisions",
                    len(pending),
                    extra={"action": "renumbered"},
                )
        return [outcomes[number] for number in range(len(writes))]

    def _delay_s(self, jobs: Sequence[ClaimedJob]) -> float:
        deferrals = min(max((job.deferrals for job in jobs), default=0), 10)
        longest: float = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**deferrals)
        return longest * (0.5 + self._chance() / 2)

    def _retried(self, call: Callable[[], T], end: float | None = None) -> T:
        """Call, and again after errors that are retryable, until `end`, or for `retry_s` from now."""
        pause = _FIRST_PAUSE_S
        if end is None:
            end = self._now() + self._limits.retry_s
        while True:
            try:
                return call()
            except IqdbError as error:
                wait = pause * (0.5 + self._chance() / 2)
                if not error.retryable or self._now() + wait > end:
                    raise
                log.warning("trying again in %.1f s: %s", wait, error, extra={"action": "again"})
                self._sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE_S)


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, IqdbError) and error.retryable


def _to_outcome(job: ClaimedJob, read: _Read, outcome: WriteOutcome) -> Done | Failed:
    """Return the outcome of a job whose write is committed, or was refused for an image that has its id."""
    if outcome.is_taken:
        return Failed(job.job_id, str(ImageExists(job.image_id)), ImageExists.__name__, outcome.seq)
    return Done(job.job_id, outcome.seq, read.signature, read.is_damaged)
