"""Connections: all that wait are let in at once, and heads have limits."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
import uvloop

from api.roles import connections
from api.roles.coalescing import MOST_BYTES, CoalescingTransport
from api.roles.connections import MAX_HEAD_BYTES, BoundedProtocol
from api.roles.process import _Server
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with method, path and body."""
    if scope["type"] == "lifespan":
        await empty(scope, receive, send)
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    text = b"%b %b %b;" % (scope["method"].encode(), scope["raw_path"], body)
    length = b"%d" % len(text)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": text})


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(
    app: ASGIApp = empty, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[_Server, socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=256)
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="on", log_config=None)
    config.load()
    server = _Server(config, lambda _: None)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    try:
        yield server, listener
    finally:
        await server.shutdown([listener])


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())  # type: ignore[arg-type]


def test_all_that_wait_are_let_in_in_few_turns_of_the_loop() -> None:
    async def scenario() -> None:
        async with serving() as (server, listener):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(64)]
            for _ in range(8):
                await asyncio.sleep(0)
            assert len(server.server_state.connections) == 64
            for client in clients:
                client.close()

    run(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_application_knows_both_addresses(host: str) -> None:
    seen: list[tuple[object, object]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope.get("client"), scope.get("server")))
        await empty(scope, receive, send)

    async def scenario() -> None:
        try:
            async with serving(app, host) as (_, listener):
                reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
                writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                assert b" 200 " in await reader.readline()
                client = writer.get_extra_info("sockname")
                assert seen[-1] == (client[:2], listener.getsockname()[:2])
                writer.close()
        except OSError as error:
            if ":" not in host or error.errno != errno.EADDRNOTAVAIL:
                raise
            pytest.skip("this machine has no IPv6")

    run(scenario)


async def exchange(listener: socket.socket, *pieces: bytes) -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.01)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 5) + b"\r\n"],
        [b"GET / HTTP/1.1\r\nX: ", *[b"y" * 20_000] * 4],
        [b"GET /", *[b"y" * 20_000] * 4],
        [b"GET /" + b"y" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n"],
        [b"GET /" + b"y" * (MAX_HEAD_BYTES - 1) + b" HTTP/1.1\r\n\r\n"],
    ],
)
def test_a_head_that_is_too_large_is_refused(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with serving() as (_, listener):
            status, body = await exchange(listener, *pieces)
            assert (status, str(MAX_HEAD_BYTES) in body["message"]) == (431, True)

    run(scenario)


def test_malformed_requests_are_refused_without_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving() as (_, listener):
            status, body = await exchange(listener, b"rubbish\r\n\r\n")
            assert (status, body["message"]) == (400, "this is not an HTTP request")
            upgrade = b"GET / HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
            assert (await exchange(listener, upgrade))[0] == 200

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert caplog.records == []


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("app", [echo, empty])
@pytest.mark.parametrize("pieces", [[CHUNKED, b"1\r\na\r\n", b"zz\r\n"], [CHUNKED + b"1\r\na\r\nzz\r\n"]])
def test_a_malformed_chunk_is_refused_in_words(
    app: ASGIApp, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Unless the request is answered already."""

    async def scenario() -> None:
        async with serving(app) as (_, listener):
            status, body = await exchange(listener, *pieces)
            is_early = app is empty and len(pieces) > 1
            expected = (200, {}) if is_early else (400, {"message": "the body of the request is malformed"})
            assert (status, body) == expected

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert caplog.records == []


UPGRADE = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
SMUGGLED = b"DELETE /images/6 HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("cut", [0, 10, None])
@pytest.mark.parametrize("body", [b"", SMUGGLED, b"x" * 70_000])
def test_a_request_that_offers_to_upgrade_keeps_its_body(
    is_chunked: bool, cut: int | None, body: bytes
) -> None:
    """Clients of HTTP/2 send such heads with every first request; what follows is a body and nothing else."""
    framing = b"Content-Length: %d" % len(body)
    sent = body
    if is_chunked:
        framing = b"Transfer-Encoding: chunked"
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    head = b"POST /first HTTP/1.1\r\n%b%b\r\n\r\n" % (UPGRADE, framing)

    async def scenario() -> None:
        async with serving(echo) as (_, listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            whole = head + sent + head + sent + LAST
            at = len(whole) if cut is None else len(head) + cut
            for piece in (whole[:at], whole[at:]):
                writer.write(piece)
                await asyncio.sleep(0.01)
            answers = await reader.read()
            writer.close()
            assert answers.count(b"HTTP/1.1 200") == 3
            assert answers.count(b"POST /first %b;" % body) == 2
            assert answers.endswith(b"GET /last ;")

    run(scenario)


def test_a_head_in_many_pieces_is_counted_once() -> None:
    async def scenario() -> None:
        async with serving() as (_, listener):
            headers = [b"X: " + b"y" * 9_000 + b"\r\n"] * 6
            status, _ = await exchange(
                listener, b"GET / HTTP/1.1\r\n", *headers, b"Connection: close\r\n\r\n"
            )
            assert status == 200

    run(scenario)


def test_a_head_that_does_not_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving() as (server, listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost")
            await asyncio.sleep(0.01)
            await server.on_tick(0)
            writer.write(b": x\r\n")
            await asyncio.sleep(0.01)
            monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0)
            await server.on_tick(0)
            assert b" 408 " in await reader.read()
            writer.close()

    run(scenario)


def test_clients_that_do_not_read_their_answer_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await empty(scope, receive, send)
            return
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        ended.append(gone.result()["type"])

    async def scenario() -> None:
        async with serving(endless) as (server, listener):
            slow, stalled = [await asyncio.open_connection(*listener.getsockname(), limit=1024) for _ in "ab"]
            for _, writer in (slow, stalled):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

            def served() -> list[Any]:
                return list(server.server_state.connections)

            def are_stuck() -> bool:
                return len(served()) == 2 and all(one.transport.get_write_buffer_size() for one in served())

            def n_written() -> int:
                return sum(one._writes.n_written for one in served())

            await until(are_stuck)
            await server.on_tick(0)
            monkeypatch.setattr(connections, "STALL_S", 0.0)
            before = n_written()
            while n_written() == before:
                await slow[0].read(65536)
            await until(are_stuck)
            await server.on_tick(0)
            await until(lambda: ended)
            assert len(served()) == 1
            assert await slow[0].read(1)
            slow[1].close()
            stalled[1].close()
            await until(lambda: len(ended) == 2)

    run(scenario)


class RecordingTransport:
    """What is written, piece by piece, and how it ended."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written.append(data)

    def write_eof(self) -> None:
        self.written.append(b"EOF")

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


def test_pieces_of_an_answer_are_merged_until_flush_or_the_end_of_the_turn() -> None:
    async def scenario() -> None:
        inner: Any = RecordingTransport()
        transport = CoalescingTransport(inner, asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        assert inner.written == []
        transport.flush()
        assert inner.written == [b"head body"]
        transport.write(b"100 Continue")
        for _ in range(3):
            await asyncio.sleep(0)
        transport.write(b"more")
        for _ in range(3):
            await asyncio.sleep(0)
        assert inner.written == [b"head body", b"100 Continue", b"more"]

    run(scenario)


def test_large_pieces_are_not_kept_back_and_ends_come_last() -> None:
    async def scenario() -> None:
        inner: Any = RecordingTransport()
        transport = CoalescingTransport(inner, asyncio.get_running_loop())
        transport.write(b"head")
        transport.write(b"x" * MOST_BYTES)
        assert inner.written == [b"head" + b"x" * MOST_BYTES]
        transport.write(b"last")
        transport.write_eof()
        assert inner.written[1:] == [b"last", b"EOF"]
        transport.write(b"words")
        transport.close()
        assert inner.written[3:] == [b"words"]
        assert transport.is_closing()
        transport.write(b"too late")
        for _ in range(3):
            await asyncio.sleep(0)
        assert inner.written[4:] == []

    run(scenario)
