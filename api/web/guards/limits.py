"""Limits of requests before any route sees them: bytes, time, number at once.

Plain ASGI middleware, because limits must hold while the body is still arriving. Requests without a body pass
unchanged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access.rights import Right, right_for
from api.ingestion.picture import BodyTooLarge
from api.web.errors import BadRequest, BodyTimeout, TooBusy, error_response
from api.web.reading.body import FORM, JSON, MISTAKEN, content_kind, has_body
from api.web.reading.parameters import MAX_JSON_BYTES
from iqdb_core.errors import IqdbError

WORDS_MAX_BYTES: Final = MAX_JSON_BYTES
"""Limit of bodies without files."""
IDS_MAX_BYTES: Final = 64 * 1024
"""Limit of a list of ids to delete, of any media type: 1,000 ids take a third of it."""
_WORDS: Final = {JSON, FORM}
_BATCHES: Final = {"/images", "/query/batch"}
"""The limit of a single picture is checked for each of theirs when it is read."""
MAX_LENGTH_DIGITS: Final = 18
DRAIN_BYTES: Final = 1024 * 1024
"""How much of a refused body is read, so that a client that is still sending sees the answer."""
FAST_BYTES_PER_S: Final = 64 * 1024
"""A sender below this rate may be dropped when others need its slot."""
YOUNG_S: Final = 1.0
"""The rate of a sender is not judged before this time."""


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """Limits of requests.

    Parameters
    ----------
    max_bytes : int
        Limit of a body on every path except those of batches, bytes.
    max_batch_bytes : int
        Limit of a form of many pictures, to add or to ask about (`POST /images`, `/query/batch`), bytes.
    max_pending : int
        Requests with a body under way at once, of those that read and of those that write.
    max_pending_bytes : int
        Bytes that the bodies under way may hold together, of either kind.
    idle_s : float
        Longest pause in the middle of a body, seconds.
    total_s : float
        Longest time that a body may take, seconds.
    bytes_per_s : float
        Minimum rate of a body after the first `idle_s`.
    """

    max_bytes: int
    max_batch_bytes: int
    max_pending: int
    max_pending_bytes: int
    idle_s: float
    total_s: float = 600.0
    bytes_per_s: float = 4096.0


class RequestLimits:
    """Refuse bodies over the limit (413), slow clients (408) and too many at once (429)."""

    def __init__(self, app: ASGIApp, options: LimitOptions) -> None:
        self._app = app
        self._options = options
        self._reads = _Slots(options)
        self._writes = _Slots(options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, metered, or answer it."""
        if scope["type"] != "http" or not has_body(scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_write = right_for(scope["method"], scope["path"]) > Right.READ
        slots = self._writes if is_write else self._reads
        limit = self._limit(scope, headers)
        try:
            announced = _content_length(headers)
            if announced > limit:
                raise _too_large(headers, limit)
            metered = slots.enter(receive, limit)
        except IqdbError as error:
            await refuse(error, scope, receive, send, self._options.idle_s)
            return
        try:
            await self._app(scope, metered, send)
        finally:
            slots.leave(metered)

    def _limit(self, scope: Scope, headers: Headers) -> int:
        if scope["method"] == "DELETE":
            return IDS_MAX_BYTES
        if content_kind(headers) in _WORDS or scope["method"] != "POST":
            return min(WORDS_MAX_BYTES, self._options.max_bytes)
        is_batch = scope["path"].rstrip("/") in _BATCHES
        return self._options.max_batch_bytes if is_batch else self._options.max_bytes


class _Slots:
    """Slots for the requests of one kind that are under way; one event loop, so no lock."""

    def __init__(self, options: LimitOptions) -> None:
        self.options = options
        self.held_bytes = 0
        self._inside: set[_Metered] = set()

    def enter(self, receive: Receive, limit: int) -> _Metered:
        """Give a request a slot; if all are taken, drop the slowest. Raises TooBusy if none is slow."""
        if len(self._inside) >= self.options.max_pending:
            slow = [one for one in self._inside if one.is_slow()]
            if not slow:
                raise TooBusy(f"more than {self.options.max_pending:,} requests at once")
            slowest = min(slow, key=_Metered.rate)
            slowest.drop()
            self._inside.discard(slowest)
        metered = _Metered(receive, limit, self)
        self._inside.add(metered)
        return metered

    def leave(self, metered: _Metered) -> None:
        """Free the slot of a request that is answered."""
        self._inside.discard(metered)
        self.held_bytes -= metered.taken


class _Metered:
    """A `receive` that counts bytes and limits waiting."""

    def __init__(self, receive: Receive, limit: int, slots: _Slots) -> None:
        self.taken = 0
        self._receive = receive
        self._limit = limit
        self._slots = slots
        self._is_complete = False
        self._is_dropped = False
        self._clock = asyncio.get_running_loop().time
        self._start = self._clock()
        self._waiting: asyncio.Timeout | None = None

    async def __call__(self) -> Message:
        if self._is_complete:  # only a disconnect can follow, for which there is no limit
            return await self._receive()
        options = self._slots.options
        end = self._start + min(options.total_s, options.idle_s + self.taken / options.bytes_per_s)
        try:
            async with asyncio.timeout_at(min(end, self._clock() + options.idle_s)) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            raise self._trouble() from None
        finally:
            self._waiting = None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.taken += size
            self._slots.held_bytes += size
            self._is_complete = not message.get("more_body", False)
            if self.taken > self._limit:
                raise BodyTooLarge(self._limit)
            if self._slots.held_bytes > options.max_pending_bytes:
                raise TooBusy(
                    f"the bodies of current requests have more than {options.max_pending_bytes:,} bytes"
                )
        return message

    def rate(self) -> float:
        """Return the rate of the body so far, bytes per second."""
        return self.taken / max(self._clock() - self._start, YOUNG_S)

    def is_slow(self) -> bool:
        """Return whether this request may be dropped: it waits for a body that arrives slowly."""
        is_old = self._clock() - self._start > YOUNG_S
        return self._waiting is not None and is_old and self.rate() < FAST_BYTES_PER_S

    def drop(self) -> None:
        """Drop this request: end the wait for more of its body, unless its own time is just over."""
        self._is_dropped = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(self._clock())

    def _trouble(self) -> BodyTimeout:
        options = self._slots.options
        if self._is_dropped:
            return BodyTimeout("the body came slowly while others waited; send it again")
        if self._clock() - self._start >= options.total_s:
            return BodyTimeout(f"the body did not end within {options.total_s:g} seconds")
        if self.taken:
            return BodyTimeout(
                f"the body stopped for {options.idle_s:g} seconds, or came with less than"
                f" {options.bytes_per_s:g} bytes per second"
            )
        return BodyTimeout(f"nothing was sent for {options.idle_s:g} seconds")


def _too_large(headers: Headers, limit: int) -> IqdbError:
    return BadRequest(MISTAKEN) if content_kind(headers) == FORM else BodyTooLarge(limit)


def _content_length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS):
        raise BadRequest("Content-Length is not a number")
    return int(text)


async def refuse(error: IqdbError, scope: Scope, receive: Receive, send: Send, idle_s: float) -> None:
    """Answer a request whose body is not wanted; who waits for leave to send it gets the answer at once."""
    if "100-continue" not in Headers(scope=scope).get("expect", "").lower():
        await _drain(receive, idle_s)
    await error_response(error)(scope, receive, send)


async def _drain(receive: Receive, idle_s: float) -> None:
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
        return  # the answer is sent all the same
