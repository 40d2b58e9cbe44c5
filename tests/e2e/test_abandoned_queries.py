"""Queries whose clients went away: what waits for a decoder is not decoded for nobody."""

from __future__ import annotations

import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest
from PIL import Image

from tests.fixtures import pictures
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    import httpx

    from tests.fixtures.servers import ServerProcess

ABANDONED = 30
SIZE = (8000, 7000)
DECODED_BYTES = 4 * SIZE[0] * SIZE[1]


@pytest.fixture(scope="module")
def large() -> bytes:
    """A picture that takes far longer to decode than all that is sent meanwhile takes to be read."""
    return pictures.encoded(Image.new("RGB", SIZE, (10, 200, 30)), "PNG", compress_level=1)


def total(client: httpx.Client, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(sample))


def n_decoded(client: httpx.Client) -> float:
    return total(client, 'iqdb_stage_seconds_count{stage="decode"}')


def n_ended(client: httpx.Client, route: str) -> float:
    return total(client, f'iqdb_requests_total{{method="POST",route="{route}"')


def is_held_while_it_decodes(server: ServerProcess, asked: Future[httpx.Response]) -> bool:
    """Stop a server once it decodes a large picture; False, and not stopped, if it was quicker."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    wait_until(lambda: asked.done() or process.memory_info().rss > before + DECODED_BYTES / 8, 60)
    os.kill(process.pid, signal.SIGSTOP)
    is_held = not asked.done()
    if not is_held:
        os.kill(process.pid, signal.SIGCONT)
    return is_held


@pytest.mark.parametrize(
    ("route", "headers"), [("/query", b"image/png"), ("/query/batch", b"multipart/form-data; boundary=x")]
)
def test_pictures_that_wait_for_a_decoder_are_dropped_with_their_clients(
    tmp_path: Path, large: bytes, route: str, headers: bytes
) -> None:
    small = pictures.flat((200, 30, 10), (60, 50))
    body = small
    if "batch" in route:
        part = b'--x\r\nContent-Disposition: form-data; name="%d"; filename="a"\r\n\r\n%b\r\n'
        body = b"".join(part % (number, small) for number in range(3)) + b"--x--\r\n"
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    request = head % (route.encode(), headers, len(body)) + body
    with (
        embedded_server(tmp_path / "iqdb.sqlite", "--decoders", "1") as server,
        ThreadPoolExecutor(1) as thread,
    ):
        client, port = server.client, int(server.url.rsplit(":", 1)[1])
        assert client.post("/images/1", files={"file": small}).status_code == 200
        before, large_ones = n_decoded(client), []
        for _ in range(20):
            large_ones.append(thread.submit(client.post, "/query", files={"file": large}))
            if is_held_while_it_decodes(server, large_ones[-1]):
                break
        # Whoever sends is slow beside other load: it is held until all have come and gone.
        for _ in range(ABANDONED):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as gone:
                gone.sendall(request)
        os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: n_ended(client, route) >= ABANDONED, 60)
        assert {one.result().status_code for one in large_ones} == {200}
        found = client.post("/query", files={"file": small})
        assert (found.status_code, found.json()[0]["post_id"]) == (200, 1)
        assert n_decoded(client) - before - len(large_ones) < ABANDONED / 2
        metrics = client.get("/metrics").text
        assert not re.search(rf'iqdb_requests_total{{.*route="{route}",status="400"}}', metrics)
        assert "Traceback" not in server.errors()
