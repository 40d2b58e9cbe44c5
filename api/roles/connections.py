"""Accepts connections quickly, and drops those whose request head or answer never ends.

Knows HTTP only as far as the head of a request. Used by `process`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import resource
import socket
from typing import TYPE_CHECKING, Any, Final

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import Server

from api.roles.coalescing import CoalescingTransport
from api.web.reading.body import has_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
"""A hash in a query string takes 0.6 KB; cookies of a whole domain take more."""
HEAD_TIMEOUT_S: Final = 20.0
"""From a connection, or the first byte of a request, to the end of its head."""
STALL_S: Final = 60.0
"""How long a client may stop reading its answer: an export occupies a snapshot meanwhile."""
LINGER_S: Final = 1.0
"""How long a refused client may continue sending (ignored) before it reads the answer."""
REST_S: Final = 5.0
"""How long a client that got an early answer may pause: many read only after sending everything."""
LONGEST_REST_S: Final = 15.0
"""How long the client may continue sending after that; its bytes are ignored."""
RESERVED_FILES: Final = 128
"""Descriptors kept from connections, at most half of all: for index, database, uploads, exports."""
WARN_AGAIN_S: Final = 60.0
"""Interval of warnings that connections are not accepted."""
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_REQUEST_LINE_BYTES: Final = len(b"GET  HTTP/1.1\r\n")
"""Bytes of a request line without its URL."""
_AT_ONCE: Final = 256
_PAUSE_S: Final = 0.5


class Acceptor:
    """Accepts on one listening socket.

    The event loop's own server accepts one connection per turn of the loop. While many clients are busy, new
    ones would wait for many turns. This one accepts all that wait, as long as that leaves file descriptors
    for the other work of the process.

    Parameters
    ----------
    listener : socket
        Closed by its owner.
    server : uvicorn.Server
        Gets the connections.
    """

    def __init__(self, listener: socket.socket, server: Server) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._create = functools.partial(
            BoundedProtocol,
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._warned_s = -math.inf
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept no more connections."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Do nothing: the server waits for its connections."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        limit, reserved = _file_limits()
        for _ in range(_AT_ONCE):
            try:
                if self._next_number() >= limit - reserved:
                    self._pause(f"all but {reserved} reserved files of {limit} (ulimit -n) are in use")
                    return
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # too many open files, in this process or on the machine
                self._pause(str(error))
                return
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_number(self) -> int:
        """Return the lowest free descriptor, which tells about how many are open.

        Raises OSError if none is free.
        """
        number = os.dup(self._listener.fileno())
        os.close(number)
        return number

    def _pause(self, reason: str) -> None:
        """Stop accepting for a while."""
        now = self._loop.time()
        if now - self._warned_s >= WARN_AGAIN_S:
            self._warned_s = now
            log.warning("connections are not accepted for now: %s", reason, extra={"action": "no_accept"})
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_PAUSE_S, self._listen)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._create, connection)
        except OSError:
            connection.close()  # the client left before it was accepted


def _file_limits() -> tuple[float, int]:
    """Return how many files this process may open, and how many of these are kept from connections."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return math.inf, 0
    return limit, min(RESERVED_FILES, limit // 2)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits for the head of a request, in bytes and in time.

    A request that is answered before its body has ended is the last of its connection: limits of bodies only
    hold while the body is read, and nothing reads it after the answer.

    A malformed request writes no line to the log. A request that offers another protocol (`Upgrade`, as
    HTTP/2 clients send without TLS) is answered in HTTP/1.1, with its body: the parser takes bytes after such
    a head for the other protocol, so a second parser reads the body.
    """

    head_since: float | None = None
    """When the current head began, by the loop's clock; None between heads."""
    _header_bytes = 0
    _unfinished_bytes = 0
    _has_begun = False
    _writes: CoalescingTransport
    _framing = b""
    """The headers with the body length of an upgrading request; empty without a body."""
    _is_resuming = False
    _is_refused = False
    _rest_until = 0.0
    """Until when ignored bytes of the client delay the end, by the loop's clock."""
    _ending: asyncio.TimerHandle | None = None
    _is_last = False
    """Whether the current answer announces the end of the connection."""
    _sent = (0, 0.0)
    """Bytes sent, and when that number last changed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first head."""
        self._writes = CoalescingTransport(transport, self.loop)
        super().connection_made(self._writes)  # type: ignore[arg-type]  # behaves like a transport
        self.head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the client."""
        if self._is_refused:
            self._unset_keepalive_if_required()  # uvicorn would close the connection before we do
            if self.loop.time() < self._rest_until:
                self._end_within(REST_S)
            return
        self._unset_keepalive_if_required()
        self._has_begun = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if self._header_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
            else:
                wrong = (
                    "the body of the request is malformed"
                    if self._is_in_body
                    else "this is not an HTTP request"
                )
                self._refuse(400, wrong)
            return
        # These bytes may include the end of the previous request's body, which cannot be told apart here.
        if self.head_since is not None and not self._has_begun:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._resume()
                if data:
                    continue
            return

    def _resume(self) -> None:
        """Continue after the head of an upgrading request, with a parser for its body."""
        self.parser = httptools.HttpRequestParser(self)
        if self._framing:
            self._is_resuming = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % self._framing)
            self._is_resuming = False
            self._framing = b""

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._is_resuming:
            return
        super().on_message_begin()
        self._has_begun = True
        self._header_bytes, self._unfinished_bytes = _REQUEST_LINE_BYTES, 0
        if self.head_since is None:
            self.head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        if not self._is_resuming:
            self._count(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        if self._is_resuming:
            return
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass the request to the application."""
        if self._is_resuming:
            return
        self.head_since = None
        if self.parser.should_upgrade():
            self._framing = b"".join(
                b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING
            )
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request, unless its body is still expected."""
        if not (self._framing and self.parser.should_upgrade()):
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Flush the answer, and continue with the next request if this one has ended."""
        self._writes.flush()
        super().on_response_complete()
        # If another request waits, `cycle` is that one: it can only arrive after this one has ended.
        has_ended = not (self.cycle.response_complete and self.cycle.more_body)
        if (self._is_last or not has_ended) and not self.transport.is_closing():
            self._is_refused = True
            self._rest_until = self.loop.time() + LONGEST_REST_S - REST_S
            self._end_within(REST_S)

    def end_if_slow(self, now: float) -> None:
        """Drop the connection if its head is late, or if the client does not read its answer."""
        waiting = self.transport.get_write_buffer_size()
        n_sent = self._writes.n_written - waiting
        if not waiting or n_sent != self._sent[0]:
            self._sent = (n_sent, now)
        elif now - self._sent[1] > STALL_S:
            self.transport.abort()
            return
        if self.head_since is not None and now - self.head_since > HEAD_TIMEOUT_S:
            self._refuse(408, f"the head of the request did not end within {HEAD_TIMEOUT_S:g} seconds")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if has_body(cycle.scope["headers"]):
            app = functools.partial(self._run_with_body, cycle, app)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]  # uvicorn has its own types for the same

    async def _run_with_body(
        self, cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run `app`; an answer before the end of the body announces the end of the connection."""

        async def send_and_say(message: Message) -> None:
            if message["type"] != "http.response.start" or not cycle.more_body:
                await send(message)
                return
            self._is_last = True
            cycle.keep_alive = False  # makes uvicorn announce it
            await send(message)
            cycle.keep_alive = True  # or uvicorn would close at once, see `_end_within`

        await app(scope, receive, send_and_say)

    def _count(self, head_bytes: int) -> None:
        self._header_bytes += head_bytes
        if self._header_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")  # ends the parser, see data_received

    @property
    def _is_in_body(self) -> bool:
        """Whether the body of a request is expected, and no answer is under way."""
        cycle = self.cycle
        return cycle is not None and cycle.more_body and not (cycle.response_started or self.pipeline)

    def _refuse_head(self) -> None:
        self._refuse(431, f"the head of the request is larger than {MAX_HEAD_BYTES} bytes")

    def _refuse(self, status: int, message: str) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if self._is_in_body:
            self.cycle.disconnected = True  # the application learns that there is no more of it
            self.cycle.message_event.set()
        elif self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # an answer is under way and ends here
            return
        body = orjson.dumps({"message": message})
        self.transport.write(
            STATUS_LINE[status] + b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        self._end_within(LINGER_S)

    def _end_within(self, linger_s: float) -> None:
        """End the stream now, and close the connection a little later.

        Closing at once, with unread bytes, would reset the connection, and the answer would be lost.
        """
        if self._ending is not None:
            self._ending.cancel()
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        self._ending = self.loop.call_later(linger_s, self.transport.close)
