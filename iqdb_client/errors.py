"""What can go wrong between a client and a server; every class says whether trying again can help."""

from __future__ import annotations

from typing import ClassVar


class ClientError(Exception):
    """A call did not do what it was to do."""

    retryable: ClassVar[bool] = False


class Refused(ClientError):
    """The server understood and said no.

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
