"""The values of the job ledger: what is submitted, what a client sees of a job, and what a worker sees of it.

Frozen and without behaviour; nothing here knows Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from iqdb_core import codec
from iqdb_core.errors import InvalidImageId
from iqdb_core.model import MAX_IMAGE_ID, Signature


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


@dataclass(frozen=True, slots=True)
class Submission:
    """One write that a client asks for; made by the three class methods.

    Raises
    ------
    InvalidImageId
        An id outside 0..2**63-1: it would fail in the store, long after it was accepted.
    """

    image_id: int
    kind: JobKind
    payload: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.image_id <= MAX_IMAGE_ID:
            raise InvalidImageId(f"an image id is an integer of 0..{MAX_IMAGE_ID}, not {self.image_id}")

    @classmethod
    def of_image(cls, image_id: int, data: bytes) -> Self:
        """Submit an image's bytes, to be decoded by a worker."""
        return cls(image_id, JobKind.IMAGE, data)

    @classmethod
    def of_signature(cls, image_id: int, signature: Signature) -> Self:
        """Submit a signature that is known already."""
        return cls(image_id, JobKind.SIGNATURE, codec.to_bytes(signature))

    @classmethod
    def of_delete(cls, image_id: int) -> Self:
        """Submit a deletion; unknown ids are no error."""
        return cls(image_id, JobKind.DELETE, b"")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that will not be lost any more.

    Parameters
    ----------
    job_id : str
        What the client follows.
    image_id : int
    revision : int
        Microseconds of the ledger's clock, higher than any given before; see `iqdb_core.model.Write`.
    """

    job_id: str
    image_id: int
    revision: int


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
        How often decoding it was begun without coming back.
    reason : str or None
        Why it failed; None in every other state.
    error : str
        Name of the class of the error it failed with; empty in every other state.
    signature : Signature or None
        What was stored; None unless done, and for a deletion.
    seq : int or None
        From this seq on the feed holds the write (or a newer one to the same image); None unless done.
    created_s, updated_s : float
        Seconds since 1970 by the clock of Redis.
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
    created_s: float
    updated_s: float


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of a list of jobs.

    Parameters
    ----------
    jobs : list of Job
    next_cursor : str or None
        Where to go on; None when the list ends here. A list that is read oldest first has a cursor at its
        end, too: what is added later comes after it.
    """

    jobs: list[Job]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is waiting.

    Parameters
    ----------
    queued, running, failed : int
        Jobs in these states.
    payload_bytes : int
        What their payloads hold.
    oldest_s : float
        Age of the oldest job that is not final, seconds; 0 when there is none.
    """

    queued: int
    running: int
    failed: int
    payload_bytes: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job as its worker sees it.

    Parameters
    ----------
    job_id : str
    kind : JobKind
    image_id, revision : int
    attempts : int
        Earlier tries to decode it that did not come back; above 0 it is suspected of killing its process.
    deferrals : int
        How often it was put back because the store was away.
    """

    job_id: str
    kind: JobKind
    image_id: int
    revision: int
    attempts: int
    deferrals: int


@dataclass(frozen=True, slots=True)
class Done:
    """The final word on a job whose write is committed; `signature` is None for a deletion."""

    job_id: str
    seq: int
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The final word on a job that cannot succeed.

    Parameters
    ----------
    job_id : str
    reason : str
        For the person who submitted it.
    error : str
        Name of the error's class in `iqdb_core.errors`, for programs; empty where no error of ours is behind
        it.
    """

    job_id: str
    reason: str
    error: str = ""
