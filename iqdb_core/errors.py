"""Every error the library raises on purpose.

Each class says by `retryable` whether trying the same thing again can help. No class knows an HTTP status or
a queue: `api` maps classes to statuses in one table, `worker` reads only `retryable`.
"""

from __future__ import annotations

from typing import ClassVar


class IqdbError(Exception):
    """Base of all errors raised on purpose; its text is fit for the person who sent the request."""

    retryable: ClassVar[bool] = False


# The caller's bytes or words are at fault.


class InvalidHash(IqdbError):
    """A text or binary form that is no signature."""


class InvalidChannels(IqdbError):
    """Colour channels that are not 3 x 16384 integers of 0..255."""


class InvalidImageId(IqdbError):
    """An id that is not an integer of 0..2**63-1."""


class InvalidSource(IqdbError):
    """A source that is too long or no text."""


class ImageError(IqdbError):
    """The image's bytes are at fault; the same bytes fail again."""


class UnsupportedFormat(ImageError):
    """Bytes that are no image of a format we read."""


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
    """There is not enough memory to decode an image now; nothing is wrong with its bytes."""

    retryable = True


# The store.


class StoreError(IqdbError):
    """The signature store refuses or fails."""


class StoreUnavailable(StoreError):
    """No connection, a timeout or a lock held too long."""

    retryable = True


class StoreRefused(StoreUnavailable):
    """The database server answers, and does not let us in or has no such database.

    Trying again helps when somebody has mended that, or a restore has made the database anew.

    Parameters
    ----------
    message : str
    mistake : str
        What it refuses, without names.
    """

    def __init__(self, message: str, mistake: str = "the user may not connect") -> None:
        super().__init__(message)
        self.mistake = mistake


class StoreInvalid(StoreError):
    """The database is not one of ours or IQDB's, or is from a newer version."""


class StoreIncomplete(StoreInvalid):
    """Tables of a store, or the row of its counter, are not there: so it is while a backup is put back.

    Trying again helps when the restore has ended; who follows a store gives one up that stays so.
    """

    retryable = True


class UnknownImage(IqdbError):
    """No image has this id."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"no image has the id {image_id}")
        self.image_id = image_id


class ImageExists(IqdbError):
    """An image has this id already, and was not to be replaced."""

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
    """A checkpoint that is damaged, foreign or of another version; the index is rebuilt from the store."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"checkpoint {path} refused: {reason}")
        self.path = path
        self.reason = reason


# The queue and its peers.


class QueueUnavailable(IqdbError):
    """Redis is away, so nothing new can be accepted."""

    retryable = True


class QueueRefused(QueueUnavailable):
    """Redis answers, and takes nothing: its operator has to do something first.

    Parameters
    ----------
    message : str
    mistake : str
        Why, without names of the machine.
    """

    def __init__(self, message: str, mistake: str) -> None:
        super().__init__(message)
        self.mistake = mistake


class ForeignQueue(QueueRefused):
    """The queue belongs to another database.

    Parameters
    ----------
    prefix : str
        Of the keys that both use.
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
        When to try again, by the rate at which the queue drains.
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
    """The queue no longer knows a job whose end was waited for; what it was to write may be sent again."""

    retryable = True


class JobFailed(IqdbError):
    """A job that ended as failed, seen from where its result was waited for.

    Parameters
    ----------
    reason : str
        In words.
    error : str
        Name of the class of the error that the job failed with.
    """

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(reason)
        self.error = error


class SearchUnavailable(IqdbError):
    """No query node answers."""

    retryable = True


class ConfigError(IqdbError):
    """A setting that cannot work; raised at start, before anything is opened."""


class WrongUsage(ConfigError):
    """Arguments, options or settings that cannot work, whatever is there; a command ends with code 2."""
