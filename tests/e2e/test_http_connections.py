"""Connections of a real server: they end after an early answer, and leave files to the rest of the server."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from api.roles.connections import REST_S
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures.ports import free_port
from tests.fixtures.servers import COMMAND, START_S, ServerProcess, embedded_server
from tests.fixtures.stores import signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALLOWED = "Authorization: Bearer s3cret\r\n"
LIVE = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
END_S = 20.0
"""Far longer than a connection lives on after its last answer."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    options = ("--token", "s3cret", "--max-upload-bytes", "100000", "--body-timeout-s", "0.3")
    with embedded_server(tmp_path_factory.mktemp("ends") / "iqdb.sqlite", *options) as running:
        yield running


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=END_S)


def port_of(server: ServerProcess) -> int:
    return int(server.url.rsplit(":", 1)[1])


EARLY = [
    ("/images/1", f"Content-Length: {10**12}", 413),
    ("/images/1", f"Expect: 100-continue\r\nContent-Length: {10**12}", 413),
    ("/images/1", "Content-Length: 1000", 401),
    ("/nowhere", f"{ALLOWED}Content-Length: 1000", 404),
    ("/nowhere", f"{ALLOWED}Transfer-Encoding: chunked", 404),
    ("/nowhere", f"{ALLOWED}Connection: close\r\nContent-Length: 1000", 404),
    ("/nowhere", f"{ALLOWED}Expect: 100-continue\r\nContent-Length: 1000", 404),
]


@pytest.mark.waits
def test_a_client_that_keeps_sending_after_an_early_answer_is_dropped(server: ServerProcess) -> None:
    """With a byte now and then, which no limit of bodies sees any more. Who is only slow is waited for."""
    with ExitStack() as stack:
        clients = []
        for path, headers, status in EARLY:
            client = stack.enter_context(connected(port_of(server)))
            clients.append(client)
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode())
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nconnection: close\r\n" in answer

        def are_left() -> bool:
            for client in list(clients):
                try:
                    client.sendall(b"1")
                except (BrokenPipeError, ConnectionResetError):
                    clients.remove(client)
            return not clients

        begin_s = time.monotonic()
        wait_until(are_left, 60, every_s=0.2, what="the connections end")
        assert time.monotonic() - begin_s > REST_S + 1


def test_a_client_that_sends_its_whole_body_sees_the_early_answer(server: ServerProcess) -> None:
    """More than the server reads before it answers, and less than it takes a second to send."""
    body = bytes(2_000_000)
    for length in (b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"):
        with connected(port_of(server)) as client:
            client.sendall(b"POST /images/1 HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % length)
            client.sendall(b"%x\r\n" % len(body) + body if b"chunked" in length else body)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 4"), answer


def test_a_request_with_a_complete_body_keeps_its_connection(server: ServerProcess) -> None:
    request = b"POST /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
    with connected(port_of(server)) as client:
        client.sendall(request % b"nowhere" + request % b"images/1" + LIVE)
        answers = b""
        while b'"live"' not in answers:
            answers += client.recv(65536)
        assert b"connection: close" not in answers
        client.sendall(LIVE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_idle_connections_leave_files_to_the_rest_of_the_server(tmp_path: Path) -> None:
    """They are there before the index is opened, and more of them than the server may have files."""
    database, port = tmp_path / "iqdb.sqlite", free_port()
    store = open_store(str(database))
    known = [signature(number) for number in range(100)]
    store.apply([Write(number, number + 1, known[number % 100]) for number in range(25_000)])
    store.close()
    with ExitStack() as stack:
        server = ServerProcess(
            ["http", "127.0.0.1", str(port), str(database)],
            tmp_path / "log",
            program=("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *COMMAND),
        )
        stack.callback(server.close)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        stack.callback(client.close)

        def status_of(path: str) -> int:
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            return answer.status

        def is_listening() -> bool:
            with suppress(ConnectionRefusedError):
                client.connect()
            return client.sock is not None

        wait_until(is_listening, 60)
        for _ in range(400):
            stack.enter_context(connected(port))
        wait_until(lambda: status_of("/ready") == 200, START_S)
        assert "with 25,000 images" in server.wait_ready().ready_line
        assert [status_of(path) for path in ("/export?format=sqlite", "/status")] == [200, 200]
        assert 1 <= server.errors().count("not accepted") <= 2, server.errors()
