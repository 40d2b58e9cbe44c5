"""What a request may cost before any route sees it: bytes, idle time, number at once.

Plain ASGI middleware, because a limit must hold while the body is still arriving.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.ingestion.picture import BodyTooLarge
from api.web.errors import BadRequest, BodyTimeout, TooBusy, error_response
from api.web.parameters import FORM
from api.web.raw_body import MISTAKEN
from iqdb_core.errors import IqdbError

WORDS_MAX_BYTES: Final = 4 * 1024 * 1024
"""Limit of bodies that hold words and not files: 49,152 channel values take 0.2 MB as JSON, and parsing much
more would hold up the event loop."""
_WORDS: Final = {"application/json", FORM}
MAX_LENGTH_DIGITS: Final = 18
DRAIN_BYTES: Final = 1024 * 1024
"""How much of a refused body is read, so that a client that is still sending gets to see the answer."""


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What a request may cost.

    Parameters
    ----------
    max_bytes : int
        Limit of a body on every path but the batch's, bytes.
    max_batch_bytes : int
        Limit on `POST /images`, bytes.
    max_pending : int
        Requests with a body under way at once.
    max_pending_bytes : int
        Bytes that the bodies under way may hold together.
    idle_s : float
        Longest pause in the middle of a body, seconds.
    """

    max_bytes: int
    max_batch_bytes: int
    max_pending: int
    max_pending_bytes: int
    idle_s: float


class RequestLimits:
    """Refuse bodies over the limit (413), idle clients (408) and too many at once (429)."""

    def __init__(self, app: ASGIApp, options: LimitOptions) -> None:
        self._app = app
        self._max_bytes = options.max_bytes
        self._max_batch_bytes = options.max_batch_bytes
        self._max_pending = options.max_pending
        self._idle_s = options.idle_s
        self._pending = 0
        self._budget = _Budget(options.max_pending_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, metered, or answer it."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope, headers)
        try:
            announced = _content_length(headers)
            if announced > limit:
                raise _too_large(headers, limit)
            if self._pending >= self._max_pending:
                raise TooBusy(f"more than {self._max_pending} requests at once")
        except IqdbError as error:
            await drain(receive, self._idle_s)
            await error_response(error)(scope, receive, send)
            return
        self._pending += 1
        metered = _Metered(receive, limit, self._idle_s, self._budget)
        try:
            await self._app(scope, metered, send)
        finally:
            self._pending -= 1
            self._budget.held -= metered.taken

    def _limit(self, scope: Scope, headers: Headers) -> int:
        if headers.get("content-type", "").partition(";")[0].strip().lower() in _WORDS:
            return min(WORDS_MAX_BYTES, self._max_bytes)
        return self._max_batch_bytes if scope["path"].rstrip("/") == "/images" else self._max_bytes


def _too_large(headers: Headers, limit: int) -> IqdbError:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return BadRequest(MISTAKEN) if kind == FORM else BodyTooLarge(limit)


class _Budget:
    """Bytes of all bodies under way together; one event loop, so no lock."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held = 0


class _Metered:
    """A `receive` that counts bytes and does not wait for ever."""

    def __init__(self, receive: Receive, limit: int, idle_s: float, budget: _Budget) -> None:
        self.taken = 0
        self._receive = receive
        self._limit = limit
        self._idle_s = idle_s
        self._budget = budget
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:  # only a disconnect can follow, and that may rightly take long
            return await self._receive()
        try:
            async with asyncio.timeout(self._idle_s):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeout(f"nothing was sent for {self._idle_s:g} seconds") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.taken += size
            self._budget.held += size
            self._is_complete = not message.get("more_body", False)
            if self.taken > self._limit:
                raise BodyTooLarge(self._limit)
            if self._budget.held > self._budget.max_bytes:
                raise TooBusy(f"bodies under way hold more than {self._budget.max_bytes} bytes")
        return message


def _content_length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS):
        raise BadRequest("Content-Length is not a number")
    return int(text)


async def drain(receive: Receive, idle_s: float) -> None:
    """Read the rest of a refused body, as far as that is reasonable, so that its sender sees the answer."""
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(idle_s):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return  # the answer is sent all the same; the client had its time
