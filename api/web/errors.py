"""Maps errors to HTTP: one table from error classes to statuses, and the form of an error's body.

Every answer to a failed request is JSON with `message`; backtraces go to the log only.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.access.policy import Ambiguous, Forbidden, RateLimited, Unauthorized
from api.contents.cursor import InvalidCursor, OtherHistory
from api.contents.reader import TooManyExports
from api.fetch.failures import FetchBusy, FetchFailed, FetchRefused
from api.ingestion.hashing import Abandoned
from api.ingestion.picture import BodyTooLarge
from api.metrics.middleware import GONE
from api.search.duplicates import TooManyWalks
from api.search.health import public_text
from api.web.answers import json_response
from iqdb_core import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_AFTER_S: Final = 1
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_NO_ROOM: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


class BadRequest(errors.IqdbError):
    """A malformed request."""


class BodyTimeout(errors.IqdbError):
    """A client that stopped sending in the middle of a body."""


class TooBusy(errors.IqdbError):
    """More concurrent requests than this process takes."""

    retryable = True


class NoSpace(errors.IqdbError):
    """No space for an upload: the disk is full, or all file descriptors are in use."""

    retryable = True


class UnknownPage(errors.IqdbError):
    """A path that does not exist."""


STATUSES: Final[dict[type[errors.IqdbError], HTTPStatus]] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    errors.InvalidHash: HTTPStatus.BAD_REQUEST,
    errors.InvalidChannels: HTTPStatus.BAD_REQUEST,
    errors.InvalidImageId: HTTPStatus.BAD_REQUEST,
    errors.InvalidSource: HTTPStatus.BAD_REQUEST,
    Ambiguous: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    InvalidCursor: HTTPStatus.BAD_REQUEST,
    FetchRefused: HTTPStatus.BAD_REQUEST,
    FetchFailed: HTTPStatus.BAD_GATEWAY,
    FetchBusy: HTTPStatus.TOO_MANY_REQUESTS,
    OtherHistory: HTTPStatus.CONFLICT,
    errors.ImageExists: HTTPStatus.CONFLICT,
    TooManyExports: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyWalks: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnknownImage: HTTPStatus.NOT_FOUND,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    UnknownPage: HTTPStatus.NOT_FOUND,
    Abandoned: HTTPStatus.BAD_REQUEST,  # of a query in a batch; nobody reads that either
    BodyTimeout: HTTPStatus.REQUEST_TIMEOUT,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedFormat: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CorruptImage: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    TooBusy: HTTPStatus.TOO_MANY_REQUESTS,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    NoSpace: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreIncomplete: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.JobLost: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ForeignQueue: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SearchUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IndexNotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    # Only an operator can fix these: not the client's fault, and trying again does not help.
    errors.StoreInvalid: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.StoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.CheckpointInvalid: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.IndexStateError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.WrongUsage: HTTPStatus.INTERNAL_SERVER_ERROR,
}


_UNSAID: Final[dict[type[errors.IqdbError], str]] = {
    errors.StoreUnavailable: "the database does not answer now; try again",
    errors.StoreIncomplete: "the database is incomplete now, as during a restore; try again",
    errors.StoreError: "the database cannot be used; the server's log says why",
    errors.QueueUnavailable: "the queue does not answer now; try again",
    errors.JobLost: "the queue has lost this job, and whether it was done is not known; send it again",
    errors.CheckpointInvalid: "the index cannot be used; the server's log says why",
    errors.ConfigError: "the server is not set up for this; its log says why",
}
"""Messages for clients in place of reasons with names of files, hosts and users."""

_BY_NAME: Final = {cls.__name__: status for cls, status in STATUSES.items()}


def status_of(error: errors.IqdbError) -> HTTPStatus:
    """Return the status of an error, by its class or nearest ancestor; of a failed job, by its reason."""
    if isinstance(error, errors.JobFailed):
        return _BY_NAME.get(error.error, HTTPStatus.UNPROCESSABLE_ENTITY)
    return _nearest(STATUSES, error) or HTTPStatus.INTERNAL_SERVER_ERROR


def _nearest(table: Mapping[type[errors.IqdbError], T], error: errors.IqdbError) -> T | None:
    """Return the entry of a table for the class of an error, or for its nearest ancestor there."""
    return next((table[cls] for cls in type(error).__mro__ if cls in table), None)


def message_of(error: errors.IqdbError) -> str:
    """Return the message for the client; details about the machine only go to the log."""
    if isinstance(error, errors.QueueRefused):
        return f"the queue takes nothing now: {error.mistake}"
    if isinstance(error, errors.StoreRefused):
        return f"the database does not let the server in: {error.mistake}"
    unsaid = _nearest(_UNSAID, error)
    if unsaid is not None:
        return unsaid
    text = str(error) or type(error).__name__
    if isinstance(error, (errors.IndexStateError, errors.SearchUnavailable)):
        return public_text(text)
    return text


def error_response(error: errors.IqdbError) -> Response:
    """Return the JSON answer to a failed request, with Retry-After if trying again can help."""
    status = status_of(error)
    headers = retry_after([error])
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"
    return json_response({"message": message_of(error)}, status=status, headers=headers)


def retry_after(failures: Iterable[errors.IqdbError]) -> dict[str, str]:
    """Return the header that says when to try again, if that can help for one of these errors."""
    waits_s = [_wait_s(error) for error in failures if status_of(error) in _BUSY]
    return {"Retry-After": str(max(waits_s))} if waits_s else {}


def _wait_s(error: errors.IqdbError) -> int:
    if isinstance(error, RateLimited):
        return error.wait_s
    if isinstance(error, errors.QueueFull):
        return math.ceil(error.retry_after_s)
    return RETRY_AFTER_S


def answer_to(error: Exception, request: Request) -> Response:
    """Return the answer to a failed request, and log what the operator should know."""
    if isinstance(error, errors.IqdbError) and not isinstance(error, Abandoned):
        return _to_known_error(error, request)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        log.warning("%s %s: %s", request.method, request.url.path, error, extra={"action": "no_room"})
        return error_response(NoSpace("the server has no space for this now; try again"))
    if isinstance(error, HTTPException):
        return json_response({"message": str(error.detail)}, status=error.status_code, headers=error.headers)
    if isinstance(error, (ClientDisconnect, Abandoned)):
        # Nobody reads this answer; it only ends the request properly.
        request.scope[GONE] = True
        return json_response({"message": "the client went away"}, status=HTTPStatus.BAD_REQUEST)
    log.error("%s %s failed", request.method, request.url.path, exc_info=error, extra={"action": "bug"})
    return json_response({"message": "internal error"}, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _to_known_error(error: errors.IqdbError, request: Request) -> Response:
    if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Not logged: clients can cause this at will.
        level = logging.INFO if error.retryable or isinstance(error, FetchFailed) else logging.ERROR
        log.log(level, "%s %s: %s", request.method, request.url.path, error, extra={"action": "refused"})
    return error_response(error)
