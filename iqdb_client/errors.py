"""What can go wrong between a client and a server; every class says whether trying again can help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

_NUMBER: Final = re.compile(r"^\[Errno -?\d+\] ")


def cause_of(error: Exception) -> str:
    """Return why something failed, in words, without the number that a system gives its error."""
    return _NUMBER.sub("", str(error)) or type(error).__name__


class ClientError(Exception):
    """A call failed."""

    retryable: ClassVar[bool] = False


class Refused(ClientError):
    """The server understood the request and refused it.

    Parameters
    ----------
    status : int
        The HTTP status, 400..499 in most cases.
    message : str
        The server's reason, a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(Refused):
    """The server does not know this id or job."""


class Unauthorized(Refused):
    """A token is required, and none or one without the right was given."""


class Unavailable(ClientError):
    """The server could not be reached, or stayed busy or away for longer than the client was to wait."""

    retryable = True


class Late(Unavailable):
    """A write was accepted and will be done, but not within the time that the server waits.

    There is no need to send it again: `Client.job` tells what becomes of it.

    Parameters
    ----------
    job_ids : sequence of str
        What to ask for.
    """

    retryable = False

    def __init__(self, job_ids: Sequence[str]) -> None:
        super().__init__(f"accepted, but not done yet: see job {', '.join(job_ids)}")
        self.job_ids = list(job_ids)
