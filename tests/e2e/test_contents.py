"""All that is stored over HTTP: lists, what is missing, exports, the feed; in one process and in roles."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from api.contents.reader import MAX_EXPORTS
from iqdb_core import codec
from tests.fixtures.cluster import running_cluster
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.stores import signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDS = [0, 5, 7, 8, 2**63 - 1]
HASHES = {image_id: codec.to_hash(signature(number)) for number, image_id in enumerate(IDS)}


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("contents")
    if request.param == "embedded":
        with embedded_server(folder / "iqdb.sqlite") as server:
            fill(server.client)
            yield server.client
        return
    with running_cluster(folder, str(folder / "iqdb.sqlite")) as cluster:
        fill(cluster.client)
        yield cluster.client


def fill(client: httpx.Client) -> None:
    for image_id, text in HASHES.items():
        answer = client.post(f"/images/{image_id}", data={"hash": text})
        assert answer.status_code == 200, answer.text
    client.post("/images/6", data={"hash": HASHES[5]})
    client.delete("/images/6")


def get(client: httpx.Client, path: str, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_ids_are_listed_page_by_page(client: httpx.Client) -> None:
    whole = get(client, "/images")
    assert [image["post_id"] for image in whole["images"]] == IDS
    assert whole["next"] is None
    found, after = [], {}
    while True:
        page = get(client, "/images", limit=2, **after)
        found += [image["post_id"] for image in page["images"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == IDS


@pytest.mark.parametrize("body", [[6, 5, 99, 7, 99], {"post_ids": [6, 5, 99, 7, 99]}])
def test_missing_ids_are_listed_in_order(client: httpx.Client, body: Any) -> None:
    answer = client.post("/images/missing", json=body)
    assert answer.json() == {"missing": [6, 99]}
    assert client.post("/images/missing", content=json.dumps(body)).json() == {"missing": [6, 99]}


@pytest.mark.parametrize("body", [[], {}, [-1], ["1"], list(range(10_001)), [True], None])
def test_malformed_lists_of_ids_are_refused(client: httpx.Client, body: Any) -> None:
    answer = client.post("/images/missing", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_everything_is_exported_as_lines(client: httpx.Client) -> None:
    answer = client.get("/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == [{"post_id": image_id, "hash": text} for image_id, text in HASHES.items()]
    assert client.head("/export").headers["content-type"] == "application/x-ndjson"
    assert client.get("/export?format=xml").status_code == 400


def test_everything_is_exported_as_a_file_of_iqdb(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.get("/export?format=sqlite")
    assert answer.headers["content-disposition"] == 'attachment; filename="iqdb.sqlite"'
    file = tmp_path / "export.sqlite"
    file.write_bytes(answer.content)
    with closing(sqlite3.connect(file)) as exported:
        tables = exported.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert tables == [("images",)]
        assert [row for (row,) in exported.execute("SELECT post_id FROM images ORDER BY post_id")] == IDS
    with embedded_server(file) as other:
        assert get(other.client, "/status")["images"] == len(IDS)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=abc", "bytes=999999999-"])
@pytest.mark.parametrize("path", ["/export?format=sqlite", "/"])
def test_no_file_is_sent_in_parts(client: httpx.Client, path: str, asked: str) -> None:
    whole = client.get(path)
    answer = client.get(path, headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.headers["accept-ranges"] == "none"
    assert len(answer.content) == len(whole.content) > 100


def test_a_mirror_follows_the_feed(client: httpx.Client) -> None:
    mirror: dict[int, str] = {}
    since: dict[str, str] = {}
    while True:
        page = get(client, "/changes", limit=2, **since)
        for change in page["changes"]:
            if change.get("deleted"):
                mirror.pop(change["post_id"], None)
            else:
                mirror[change["post_id"]] = change["hash"]
        since = {"since": page["next"]}
        if not page["changes"]:
            break
    assert mirror == HASHES
    assert page["head_seq"] == int(page["next"].partition(".")[0])


def test_a_mirror_waits_for_what_is_new(client: httpx.Client) -> None:
    since = ""
    while (page := get(client, "/changes", limit=1000, **({"since": since} if since else {})))["changes"]:
        since = page["next"]
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(get, client, "/changes", since=page["next"], wait_s=20)
        assert client.post("/images/1000", data={"hash": HASHES[7]}).status_code == 200
        news = waiting.result(60)
    assert [(one["post_id"], one["hash"]) for one in news["changes"]] == [(1000, HASHES[7])]
    client.delete("/images/1000")
    gone = get(client, "/changes", since=news["next"], wait_s=20)["changes"]
    assert [(one["post_id"], one["deleted"]) for one in gone] == [(1000, True)]


@pytest.mark.parametrize(
    "query", ["since=x", "limit=0", "limit=1001", "wait_s=-1", "wait_s=21", "since=1&since=2"]
)
def test_invalid_questions_to_the_feed_are_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"/changes?{query}").status_code == 400


def test_a_mirror_is_told_of_another_history(tmp_path: Path) -> None:
    file, copy = tmp_path / "iqdb.sqlite", tmp_path / "copy.sqlite"
    with embedded_server(file) as server:
        server.client.post("/images/1", data={"hash": HASHES[0]})
        assert server.terminate() == 0
    shutil.copy(file, copy)
    with embedded_server(file) as server:
        for image_id in (2, 3):
            server.client.post(f"/images/{image_id}", data={"hash": HASHES[0]})
        since = get(server.client, "/changes", limit=2)["next"]
        assert server.terminate() == 0
    shutil.copy(copy, file)
    with embedded_server(file) as server:
        assert server.client.get("/changes", params={"since": since}).status_code == 409
        for image_id in (12, 13, 14):
            server.client.post(f"/images/{image_id}", data={"hash": HASHES[0]})
        answer = server.client.get("/changes", params={"since": since})
        assert answer.status_code == 409
        assert "begin again" in answer.json()["message"]


def test_a_large_export_is_one_moment_while_others_write(tmp_path: Path) -> None:
    count = 3000
    with embedded_server(tmp_path / "iqdb.sqlite") as server:
        client = server.client
        for start in range(0, count, 1000):
            images = [{"post_id": start + n, "hash": HASHES[7]} for n in range(1000)]
            assert client.post("/images", json={"images": images}).status_code == 200
        with client.stream("GET", "/export") as answer:
            lines = answer.iter_lines()
            found = [json.loads(next(lines))["post_id"]]
            with httpx.Client(base_url=server.url, timeout=60) as writer:
                writer.delete(f"/images/{count - 1}")
                writer.post(f"/images/{count}", data={"hash": HASHES[7]})
            found += [json.loads(line)["post_id"] for line in lines]
        assert found == list(range(count))
        # Those that go away in the middle leave room for others, and nothing open.
        most = open_databases(server) + 3 * MAX_EXPORTS  # connections are kept for the next ones
        for _ in range(10):
            break_off_an_export(server)
        wait_until(lambda: open_databases(server) <= most, 60, what="the exports are closed")
        assert client.get("/export").status_code == 200


def open_databases(server: ServerProcess) -> int:
    """Return how many descriptors of database files a server holds."""
    return sum(".sqlite" in file.path for file in psutil.Process(server.process.pid).open_files())


def break_off_an_export(server: ServerProcess) -> None:
    """Read the beginning of an export of which most does not fit into what lies between."""
    address = httpx.URL(server.url)
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect((address.host, address.port))
        while True:
            client.sendall(b"GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if client.recv(4096).startswith(b"HTTP/1.1 200"):
                return
