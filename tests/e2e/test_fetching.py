"""`url=` in place of a picture, asked of a real server that fetches from a real one."""

from __future__ import annotations

import functools
import http.server
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.http_peer import handled_by
from tests.fixtures.noise import noise_png
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.png").write_bytes(noise_png(1))
    (folder / "page.html").write_text("<p>no picture")
    with handled_by(functools.partial(Quiet, directory=str(folder))) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    file = tmp_path_factory.mktemp("fetch") / "iqdb.sqlite"
    options = ("--fetch-private", "--log-level", "info")
    with embedded_server(file, *options, environment={"IQDB_FETCH": "on"}) as running:
        yield running


def test_a_picture_is_added_and_found_by_its_address(server: ServerProcess, pictures: str) -> None:
    client, url = server.client, f"{pictures}/a.png"
    sent = client.post("/images/1", files={"file": noise_png(1)}).json()
    for number, request in enumerate(
        ({"params": {"url": url}}, {"data": {"url": url}}, {"json": {"url": url}}), 2
    ):
        answer = client.post(f"/images/{number}", **request)
        assert answer.status_code == 200, answer.text
        assert answer.json()["hash"].removeprefix("iqdb_") == sent["hash"].removeprefix("iqdb_")
    found = client.post("/query", data={"url": url, "limit": 10})
    assert [match["post_id"] for match in found.json()] == [1, 2, 3, 4]
    assert client.get("/query", params={"url": url}).json() == found.json()


def test_fetch_errors_are_reported(server: ServerProcess, pictures: str) -> None:
    for path, status in (("page.html", 422), ("absent.png", 502)):
        assert server.client.post("/query", data={"url": f"{pictures}/{path}"}).status_code == status
    both = server.client.post("/query", data={"url": f"{pictures}/a.png"}, files={"file": noise_png(1)})
    assert both.status_code == 400
    assert server.client.post("/query", data={"url": "file:///etc/passwd"}).status_code == 400


def test_signatures_of_fetched_urls_are_not_logged(server: ServerProcess, pictures: str) -> None:
    assert server.client.post("/query", data={"url": f"{pictures}/a.png?signed=gauze"}).status_code == 200
    assert "gauze" not in server.log.read_text()


@pytest.mark.parametrize(("environment", "words"), [({}, "IQDB_FETCH"), ({"IQDB_FETCH": "on"}, "public")])
def test_nothing_is_fetched_unless_enabled(
    tmp_path: Path, pictures: str, environment: dict[str, str], words: str
) -> None:
    port = httpx.URL(pictures).port
    with embedded_server(tmp_path / "iqdb.sqlite", environment=environment) as server:
        for url in (f"{pictures}/a.png", "http://localhost/a.png"):
            answer = server.client.post("/query", data={"url": url})
            assert answer.status_code == 400
            assert str(port) not in answer.json()["message"]
        assert words in answer.json()["message"]
