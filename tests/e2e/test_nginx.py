"""The nginx configuration in a real nginx, before a real server: what it refuses looks as if the server had.

Skipped where nginx is not installed; `tests/unit/test_deployment.py` reads the configuration.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.noise import noise_png
from tests.fixtures.ports import free_port
from tests.fixtures.servers import TRUST, embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.servers import ServerProcess

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "secret"
MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {ours}
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("nginx") / "iqdb.sqlite", "--token", TOKEN) as running:
        yield running


def configuration(folder: Path, port: int, backend_port: int) -> str:
    """Return the shipped configuration, without TLS, on a free port of this machine, before a server."""
    ours = (DEPLOY / "nginx.conf").read_text()
    for changed, by in (
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"listen \[::\]:443 ssl;", ""),
        (r"ssl_certificate(_key)? \S+;", ""),
        (r"server 127\.0\.0\.1:5588;", f"server 127.0.0.1:{backend_port};"),
        (r"/etc/nginx/iqdb-proxy\.conf", str(DEPLOY / "iqdb-proxy.conf")),
    ):
        ours, count = re.subn(changed, by, ours)
        assert count, changed
    user = "user root root;" if os.geteuid() == 0 else ""
    return MAIN.format(folder=folder, user=user, ours=ours)


@pytest.fixture
def proxy(server: ServerProcess, tmp_path: Path) -> Iterator[httpx.Client]:
    """What clients see: nginx before the server, with limits that nobody has used up yet."""
    yield from running_proxy(tmp_path, int(server.url.rpartition(":")[2]))


@pytest.fixture
def lonely_proxy(tmp_path: Path) -> Iterator[httpx.Client]:
    """What clients see where no server is behind nginx."""
    yield from running_proxy(tmp_path, free_port())


def running_proxy(folder: Path, backend_port: int) -> Iterator[httpx.Client]:
    assert NGINX is not None
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(configuration(folder, port, backend_port))
    process = subprocess.Popen([NGINX, "-c", str(path)], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=TRUST, timeout=30) as client:

            def answers() -> bool:
                assert process.poll() is None, (folder / "error.log").read_text()
                try:
                    client.get("/live")
                except httpx.TransportError:
                    return False
                return True

            wait_until(answers, 30, what="nginx listens")
            yield client
    finally:
        process.terminate()
        process.wait(30)


def assert_refused(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"message"}


def test_requests_are_passed_on(proxy: httpx.Client) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert proxy.post("/images/1", files={"file": noise_png(1)}, headers=bearer).status_code == 200
    assert proxy.get("/images/2").status_code == 404
    assert proxy.get("/ready").status_code == 200


def test_too_many_requests_are_refused_as_the_server_refuses_them(proxy: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as clients:  # one alone may be slower than the limit, beside other load
        answers = list(clients.map(lambda _: proxy.get("/images/1"), range(200)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} <= {200, 404, 429}
    assert_refused(refused[0], 429)
    assert int(refused[0].headers["Retry-After"]) >= 1
    for path in ("/live", "/ready"):
        watched = [proxy.get(path) for _ in range(50)]
        assert {answer.status_code for answer in watched} == {200}


def test_too_large_a_body_is_refused_as_the_server_refuses_it(proxy: httpx.Client) -> None:
    connection = http.client.HTTPConnection(proxy.base_url.host, proxy.base_url.port or 80, timeout=30)
    connection.putrequest("POST", "/images/1")
    connection.putheader("Content-Length", str(10 * 1024**3))
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert_refused(httpx.Response(answer.status, headers=answer.getheaders(), content=content), 413)


def test_long_urls_are_passed_on(proxy: httpx.Client) -> None:
    source = "\u6f22" * 2000
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    added = proxy.post("/images/3", params={"source": source}, files={"file": noise_png(3)}, headers=bearer)
    assert added.status_code == 200
    assert proxy.get("/images/3").json()["source"] == source
    many = ",".join(str(2**63 - 1 - number) for number in range(1000))
    assert proxy.post("/query", params={"post_id": "3", "exclude": many}).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /status?x=" + "x" * 70_000 + " HTTP/1.1\r\nHost: localhost", 414),
        ("GET /status HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 70_000, 400),
        ("GET /status HTTP/1.1", 400),
        ("GET /%zz HTTP/1.1\r\nHost: localhost", 400),
        ("nonsense", 400),
    ],
    ids=["url", "header", "host", "escape", "nonsense"],
)
def test_malformed_requests_are_refused_in_json(proxy: httpx.Client, head: str, status: int) -> None:
    with socket.create_connection((proxy.base_url.host, proxy.base_url.port or 80), timeout=30) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        content = answer.read()
    assert_refused(httpx.Response(answer.status, headers=answer.getheaders(), content=content), status)


def test_an_unreachable_front_end_is_answered_like_a_loading_server(lonely_proxy: httpx.Client) -> None:
    answer = lonely_proxy.get("/images/1")
    assert_refused(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
