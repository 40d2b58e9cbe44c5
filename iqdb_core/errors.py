"""Every error the library raises on purpose.

Each class says by `retryable` whether trying the same thing again can help. No class knows an HTTP status or
a queue: `api` maps classes to statuses in one table, `worker` reads only `retryable`.
"""

from __future__ import annotations

from typing import ClassVar


class IqdbError(Exception):
    """Base of all errors raised on purpose; its text may be shown to the client."""

    retryable: ClassVar[bool] = False


# The caller's input is at fault.


class InvalidHash(IqdbError):
    """Text or bytes that are no signature."""


class InvalidChannels(IqdbError):
    """Colour channels that are not 3 x 16384 integers of 0..255."""


class InvalidImageId(IqdbError):
    """An id that is not an integer of 0..2**63-1."""


class InvalidSource(IqdbError):
    """A source that is too long, or has characters that cannot be stored."""


class ImageError(IqdbError):
    """The image's bytes are at fault; the same bytes will fail again."""


class UnsupportedFormat(ImageError):
    """The bytes are no image of a supported format."""


class CorruptImage(ImageError):
    """An image that is damaged, truncated or built to exhaust the decoder."""


class ImageTooLarge(ImageError):
    """An image whose header announces more pixels than the limit.

    Parameters
    ----------
    pixels, max_pixels : int
        What the header says, and the limit in force.
    """

    def __init__(self, pixels: int, max_pixels: int) -> None:
        super().__init__(f"the image has {pixels:,} pixels; the limit is {max_pixels:,}")
        self.pixels = pixels
        self.max_pixels = max_pixels


class OutOfMemory(IqdbError):
    """Not enough memory to decode an image now; its bytes are not at fault."""

    retryable = True


# The store.


class StoreError(IqdbError):
    """The signature store refuses or fails."""


class StoreUnavailable(StoreError):
    """No connection, a timeout or a lock held too long."""

    retryable = True


class StoreRefused(StoreUnavailable):
    """The database server answers, but refuses the connection or has no such database.

    Trying again helps once an operator has fixed that, or a restore has created the database again.

    Parameters
    ----------
    message : str
    mistake : str
        The reason, without names of the machine.
    """

    def __init__(self, message: str, mistake: str = "the user may not connect") -> None:
        super().__init__(message)
        self.mistake = mistake


class StoreInvalid(StoreError):
    """The database is not one of ours or IQDB's, or is from a newer version."""


class StoreIncomplete(StoreInvalid):
    """Tables of a store, or the row of its counter, are missing, as during a restore.

    Trying again helps once the restore has ended; a follower gives up on a store that stays incomplete.
    """

    retryable = True


class UnknownImage(IqdbError):
    """No image has this id."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"no image has the id {image_id}")
        self.image_id = image_id


class ImageExists(IqdbError):
    """An image has this id already and must not be replaced."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"an image has the id {image_id} already")
        self.image_id = image_id


# The index.


class IndexStateError(IqdbError):
    """The index cannot serve what was asked."""


class IndexNotReady(IndexStateError):
    """The index is still loading, or has not caught up in time."""

    retryable = True


class CheckpointInvalid(IndexStateError):
    """A checkpoint is damaged, foreign or of another version; the index is rebuilt from the store."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"checkpoint {path} refused: {reason}")
        self.path = path
        self.reason = reason


# The queue and its peers.


class QueueUnavailable(IqdbError):
    """Redis is away, so nothing new can be accepted."""

    retryable = True


class QueueRefused(QueueUnavailable):
    """Redis answers but accepts nothing until its operator has fixed something.

    Parameters
    ----------
    message : str
    mistake : str
        The reason, without names of the machine.
    """

    def __init__(self, message: str, mistake: str) -> None:
        super().__init__(message)
        self.mistake = mistake


class ForeignQueue(QueueRefused):
    """The queue belongs to another database.

    Parameters
    ----------
    prefix : str
        The prefix of the keys that both use.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(
            f"the keys {prefix!r} of this Redis hold the queue of another database;"
            " give one of the two deployments its own IQDB_REDIS_PREFIX",
            "it belongs to another database; the server's log says more",
        )


class QueueFull(IqdbError):
    """The queue holds as much as it may.

    Parameters
    ----------
    jobs, max_jobs : int
        Unfinished jobs it holds, and the limit in force.
    payload_bytes, max_bytes : int
        Bytes of payloads it holds, and the limit in force.
    retry_after_s : float
        When to try again, from the rate at which the queue drains.
    """

    retryable = True

    def __init__(
        self, jobs: int, max_jobs: int, payload_bytes: int, max_bytes: int, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(
            f"the queue holds {jobs:,} of {max_jobs:,} jobs and {payload_bytes:,} of {max_bytes:,} bytes"
        )
        self.jobs = jobs
        self.max_jobs = max_jobs
        self.payload_bytes = payload_bytes
        self.max_bytes = max_bytes
        self.retry_after_s = retry_after_s


class UnknownJob(IqdbError):
    """No job has this id, or its record has expired."""


class JobLost(IqdbError):
    """The queue no longer knows a job that a request waits for; the write may be sent again."""

    retryable = True


class JobFailed(IqdbError):
    """A job that a request waits for has failed.

    Parameters
    ----------
    reason : str
        In words.
    error : str
        Class name of the error that made the job fail.
    """

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(reason)
        self.error = error


class SearchUnavailable(IqdbError):
    """No query node answers."""

    retryable = True


class ConfigError(IqdbError):
    """An invalid setting; raised at start, before anything is opened."""


class WrongUsage(ConfigError):
    """Invalid arguments, options or settings; a command ends with exit code 2."""
