"""Commands on addresses that cannot be, through unusable proxies, and on servers that take nothing."""

from __future__ import annotations

import http.server
import json
import re
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.fixtures import pictures
from tests.fixtures.command_line import Running, run
from tests.fixtures.http_peer import handled_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = "a" * 70


class Redirecting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith(("/full/", "/none/")):
            body = b'{"images": 0}' if "status" in self.path else b'{"images": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(302)
        self.send_header("Location", "http://xn--a/")
        self.end_headers()

    def do_POST(self) -> None:
        """Take nothing, for longer than anybody waits: no request, or none of its images."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_read = self.path.startswith("/none/")
        ids = re.findall(rb'name="(\d+)"', body)
        images = [{"post_id": int(one), "status": 503, "message": "it is locked"} for one in ids]
        answer = json.dumps({"images": images}).encode() if is_read else b""
        self.send_response(200 if is_read else 503)
        self.send_header("Retry-After", "600")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def redirecting() -> Iterator[str]:
    with handled_by(Redirecting) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """Yield a server that never answers an add, and whether one was sent."""
    is_asked = threading.Event()

    class Silent(Redirecting):
        def do_POST(self) -> None:
            is_asked.set()
            self.rfile.read()  # until the client goes away

    with handled_by(Silent) as port:
        yield f"http://127.0.0.1:{port}/full", is_asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run("upgrade", folder=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTP_PROXY", "foo://x"),
        ("HTTPS_PROXY", "socks://x:1"),
        ("HTTP_PROXY", "::"),
        ("NO_PROXY", "[::1"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told(folder: Path, name: str, value: str) -> None:
    for command in (("search", "http://127.0.0.1:9/"), ("status", "--url", "https://127.0.0.1:9/")):
        ended = run(*command, folder=folder, environment={name: value})
        assert ended.returncode == 1
        assert ended.stderr.startswith("iqdb: ")
        assert "that the environment names cannot be used" in ended.stderr


@pytest.mark.parametrize("host", ["a..b", ".x", f"{LONG}.de", "xn--a"])
def test_a_host_that_cannot_be_is_told(folder: Path, host: str) -> None:
    url = f"http://{host}/"
    for command in (("search", url), ("status", "--url", url)):
        ended = run(*command, folder=folder)
        assert ended.returncode in {1, 2}
        assert (ended.stderr.startswith("iqdb: "), url in ended.stderr) == (True, True), ended.stderr


def test_a_redirect_to_such_a_host_is_told(folder: Path, redirecting: str) -> None:
    for command in (("search", redirecting), ("status", "--url", redirecting)):
        ended = run(*command, folder=folder)
        assert (ended.returncode, ended.stderr.startswith("iqdb: ")) == (1, True), ended.stderr


@pytest.mark.parametrize(
    ("path", "words"), [("full", "POST /images: the server answered 503"), ("none", "it is locked")]
)
def test_an_add_that_a_server_ends_is_told_how_to_go_on(
    tmp_path: Path, redirecting: str, path: str, words: str
) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(pictures.picture(1))
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    ended = run("add", ".", "--url", f"{redirecting}{path}", folder=tmp_path, environment=environment)
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert "what was added so far is in; run the same command again to go on" in told
    assert words in told[-1]
    assert len(told) == 2


def test_an_add_that_waits_for_a_server_ends_at_the_first_signal(
    tmp_path: Path, silent: tuple[str, threading.Event]
) -> None:
    url, is_asked = silent
    (tmp_path / "1.jpg").write_bytes(pictures.picture(1))
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with Running("add", ".", "--url", url, "--json", folder=tmp_path, environment=environment) as started:
        assert is_asked.wait(60)
        started.send_signal(signal.SIGINT)
        start_s = time.monotonic()
        assert started.wait_end() == 130
        assert time.monotonic() - start_s < 30, "it would wait 90 seconds for an answer"
        assert json.loads(started.printed())["added"] == 0
        assert started.errors() == (
            "interrupted; what was being added may be in, too; run the same command again to go on\n"
        )
