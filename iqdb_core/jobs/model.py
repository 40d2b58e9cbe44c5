"""The values of the job ledger: what is submitted, what a client sees of a job, and what a worker sees of it.

Frozen and without behaviour; nothing here knows Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from iqdb_core import codec
from iqdb_core.errors import InvalidImageId
from iqdb_core.model import MAX_IMAGE_ID, Signature

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of a histogram of durations, inclusive, seconds; a last bucket has what is longer."""


class JobState(StrEnum):
    """Life of a job: queued -> running -> done or failed; back to queued when it cannot be done now."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in {JobState.DONE, JobState.FAILED}


class JobKind(StrEnum):
    """What a payload is: an image to decode, a signature of 264 bytes, or nothing for a deletion."""

    IMAGE = "image"
    SIGNATURE = "signature"
    DELETE = "delete"


class Lane(StrEnum):
    """Which of two queues a job waits in: interactive if a client waits for its end, else bulk."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Submission:
    """One write that a client asks for; the three class methods make it.

    Parameters
    ----------
    image_id : int
    kind : JobKind
    payload : bytes
    lane : Lane
    source : str or None
        Where the image is from, at most 2,000 characters; handed on to the store.
    if_absent : bool
        Replace no image: if one has the id, the job fails.

    Raises
    ------
    InvalidImageId
        The id is outside 0..2**63-1: it would fail in the store, long after it was accepted.
    InvalidSource
        The store would refuse the source.
    """

    image_id: int
    kind: JobKind
    payload: bytes
    lane: Lane = Lane.BULK
    source: str | None = None
    if_absent: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.image_id <= MAX_IMAGE_ID:
            raise InvalidImageId(f"an image id is an integer of 0..{MAX_IMAGE_ID}, not {self.image_id}")
        if self.source is not None:
            codec.check_source(self.source)

    @classmethod
    def of_image(
        cls,
        image_id: int,
        data: bytes,
        *,
        lane: Lane = Lane.BULK,
        source: str | None = None,
        if_absent: bool = False,
    ) -> Self:
        """Submit an image's bytes, to be decoded by a worker."""
        return cls(image_id, JobKind.IMAGE, data, lane, source, if_absent)

    @classmethod
    def of_signature(
        cls,
        image_id: int,
        signature: Signature,
        *,
        lane: Lane = Lane.BULK,
        source: str | None = None,
        if_absent: bool = False,
    ) -> Self:
        """Submit a signature that is known already."""
        return cls(image_id, JobKind.SIGNATURE, codec.to_bytes(signature), lane, source, if_absent)

    @classmethod
    def of_delete(cls, image_id: int, *, lane: Lane = Lane.BULK) -> Self:
        """Submit a deletion; unknown ids are no error."""
        return cls(image_id, JobKind.DELETE, b"", lane)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that is durably accepted.

    Parameters
    ----------
    job_id : str
        By which the client follows the job.
    image_id : int
    revision : int
        Microseconds of the ledger's clock, higher than any earlier one; see `iqdb_core.model.Write`.
    """

    job_id: str
    image_id: int
    revision: int


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Submissions that were accepted together, and the queue afterwards.

    Parameters
    ----------
    jobs : list of Accepted
    missing_messages : int
        How many messages to send so that all waiting jobs are claimed.
    queue_jobs, queue_bytes : int
        Jobs in the queue that are not final, and the bytes of their payloads.
    """

    jobs: list[Accepted]
    missing_messages: int
    queue_jobs: int
    queue_bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a client sees it.

    Parameters
    ----------
    job_id : str
    image_id : int
    kind : JobKind
    state : JobState
    revision : int
        As in `Accepted`.
    attempts : int
        Claims that it is blamed for: its process died, or could not read or store it. An open claim counts.
    reason : str or None
        Why it failed; None in every other state.
    error : str
        Name of the class of the error it failed with; empty in every other state.
    signature : Signature or None
        What was stored; None unless done, and for a deletion.
    seq : int or None
        From this seq on the feed holds the write (or a newer one to the same image), or the image that
        already had the id of a job with `if_absent`; None in every other case.
    source : str or None
        As it was submitted.
    is_damaged : bool
        Whether a part of the picture was missing; False unless done.
    """

    job_id: str
    image_id: int
    kind: JobKind
    state: JobState
    revision: int
    attempts: int
    reason: str | None
    error: str
    signature: Signature | None
    seq: int | None
    source: str | None = None
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of a list of jobs.

    Parameters
    ----------
    jobs : list of Job
    next_cursor : str or None
        Where the next page begins, also at the end of the list: what is added later comes after it. None if
        the list is empty so far.
    """

    jobs: list[Job]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much the queue holds.

    Parameters
    ----------
    queued, running, failed : int
        Jobs in these states.
    payload_bytes : int
        Bytes of their payloads.
    oldest_s : float
        Age of the oldest job that is not final, seconds; 0 when there is none.
    interactive : int
        How many of the queued are in the interactive lane.
    """

    queued: int
    running: int
    failed: int
    payload_bytes: int
    oldest_s: float
    interactive: int = 0


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job as its worker sees it.

    Parameters
    ----------
    job_id : str
    kind : JobKind
    image_id, revision : int
    attempts : int
        Earlier claims that it is blamed for, as in `Job`; above 0 it is a suspect.
    deferrals : int
        How often it was put back because the store was away.
    payload : bytes or None
        None for a deletion, or if it was lost.
    source : str or None
    if_absent : bool
        Replace no image; False for jobs that an older version accepted.
    """

    job_id: str
    kind: JobKind
    image_id: int
    revision: int
    attempts: int
    deferrals: int
    payload: bytes | None
    source: str | None = None
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs that one claimant has in hand.

    Parameters
    ----------
    ticket : str
        Tells this claim from others of the same claimant.
    jobs : list of ClaimedJob
        Empty if nothing waits. Either a single suspect, or jobs of one lane in the order of acceptance.
    waiting : int
        About how many jobs still wait to be claimed.
    """

    ticket: str
    jobs: list[ClaimedJob]
    waiting: int


@dataclass(frozen=True, slots=True)
class Idling:
    """How a claimant waits for jobs when there are none, or few.

    Parameters
    ----------
    linger_s : float
        How long it listens, above 0, before it gives up: waking it costs less than another message.
    gather_s : float
        Bulk jobs are claimed when the oldest has waited this long, or there are enough for a full claim: a
        transaction for each of them would cost more than hashing them.
    """

    linger_s: float
    gather_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a job whose write is committed.

    Parameters
    ----------
    job_id : str
    seq : int
    signature : Signature or None
        None for a deletion.
    is_damaged : bool
        Whether a part of the picture was missing.
    """

    job_id: str
    seq: int
    signature: Signature | None
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of a job that cannot succeed.

    Parameters
    ----------
    job_id : str
    reason : str
        For the person who submitted it.
    error : str
        Name of the error's class in `iqdb_core.errors`, for programs; empty if it was no error of ours.
    seq : int or None
        From this seq on the feed holds the image that was in the way.
    """

    job_id: str
    reason: str
    error: str = ""
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The outcome of a job that cannot be done now: it goes back into the queue.

    Parameters
    ----------
    job_id : str
    delay_s : float
        Seconds before it may be claimed again.
    is_to_blame : bool
        Whether it is blamed for this claim, as if its process had died.
    is_deferred : bool
        Whether it counts as a deferral because the store was away.
    """

    job_id: str
    delay_s: float = 0.0
    is_to_blame: bool = False
    is_deferred: bool = False
