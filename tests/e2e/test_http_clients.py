"""Requests as public clients send them: odd forms, missing types, slashes, other methods."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fixtures import pictures
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

PICTURE = pictures.picture(3, (1200, 900))
"""Larger than a field of a form may be."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(
        tmp_path_factory.mktemp("clients") / "iqdb.sqlite", "--log-level", "info"
    ) as running:
        answer = running.client.post("/images/3", files={"file": PICTURE})
        assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture
def client(server: ServerProcess) -> httpx.Client:
    return server.client


@pytest.fixture
def known(client: httpx.Client) -> str:
    return str(client.get("/images/3").json()["hash"])


def form(*headers: str, body: bytes = PICTURE, tail: bytes = b"\r\n--xyz--\r\n") -> dict[str, Any]:
    content = b"--xyz\r\n" + "\r\n".join(headers).encode() + b"\r\n\r\n" + body + tail
    return {"content": content, "headers": {"Content-Type": "multipart/form-data; boundary=xyz"}}


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Disposition: form-data; name=file",),
        ('Content-Disposition: form-data; name="file"',),
        ('Content-Disposition: form-data; name="file"', "Content-Type: text/plain"),
        ('content-disposition: form-data; name="file"; filename=""', "content-type: image/png"),
        ('Content-Disposition: form-data; name="file"; filename="../../etc/passwd\u00e4"',),
    ],
)
def test_a_part_named_file_is_the_picture_whatever_its_headers(
    client: httpx.Client, headers: tuple[str, ...]
) -> None:
    assert len(PICTURE) > 64 * 1024
    answer = client.post("/query", **form(*headers))
    assert answer.status_code == 200, answer.text
    assert answer.json()[0]["score"] == pytest.approx(100, abs=0.001)


@pytest.mark.parametrize(
    "request_",
    [
        form("Content-Disposition: form-data", body=b"x"),
        form("Content-Disposition: form-data; name=hash", body=b"x" * 70_000),
        form("Content-Disposition: form-data; name=source", body=b"\xe9t\xe9.jpg"),
        form("Content-Disposition: form-data; name=file", tail=b""),
        form("Content-Disposition: form-data; name=file; x=" + "y" * 9000, body=b"x"),
        form(*[f"X-{number}: y" for number in range(3000)], body=b"x"),
        {"content": b"--xyz--\r\n", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_broken_forms_are_answered_400(client: httpx.Client, request_: dict[str, Any]) -> None:
    answer = client.post("/query", **request_)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]


def test_two_files_in_a_form_are_refused(client: httpx.Client) -> None:
    files = [("file", ("a", b"x")), ("other", ("b", b"x"))]
    assert client.post("/query", files=files).status_code == 400


@pytest.mark.parametrize(
    "kind", [None, "application/x-www-form-urlencoded", "text/plain", "application/json"]
)
def test_a_body_that_begins_with_a_brace_is_json(client: httpx.Client, kind: str | None) -> None:
    planes = np.random.default_rng(5).integers(0, 256, (3, 16384)).tolist()
    body = json.dumps({"channels": dict(zip("rgb", planes, strict=True))}, indent=1)
    assert len(body) > 200_000
    headers = {} if kind is None else {"Content-Type": kind}
    added = client.post("/images/5", content=body, headers=headers)
    assert added.status_code == 200, added.text
    assert list(added.json()) == ["post_id", "hash"]
    found = client.post("/query", content=f"\n {body}", headers=headers).json()
    assert list(found[0]) == ["post_id", "hash", "score"]
    assert found[0]["post_id"] == 5
    assert client.delete("/images/5").status_code == 200


def test_a_hash_counts_more_than_a_file_or_channels(client: httpx.Client, known: str) -> None:
    other = {"file": pictures.picture(9, (40, 30))}
    found = client.post("/query", params={"hash": known}, files=other).json()
    assert found[0]["score"] == pytest.approx(100, abs=0.001)
    channels = {"r": [0] * 16384, "g": [0] * 16384, "b": [0] * 16384}
    found = client.post("/query", json={"hash": known, "channels": channels}).json()
    assert found[0]["score"] == pytest.approx(100, abs=0.001)
    added = client.post("/images/6", data={"hash": known}, files=other).json()
    assert added["hash"] == known
    assert client.delete("/images/6").status_code == 200


@pytest.mark.parametrize(
    "path", ["/status", "/images/3", "/live", "/ready", "/", "/static/ask.js", "/openapi.json"]
)
def test_a_trailing_slash_changes_nothing_and_head_works(client: httpx.Client, path: str) -> None:
    plain = client.get(path)
    assert plain.status_code == 200
    for answer in (client.get(f"{path.rstrip('/')}/"), client.get(f"{path.rstrip('/')}//")):
        assert (answer.status_code, answer.history) == (200, [])
        assert answer.headers["content-type"] == plain.headers["content-type"]
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]
    assert head.headers["content-type"] == plain.headers["content-type"]


def test_slashes_after_paths_that_are_written_to(client: httpx.Client, known: str) -> None:
    assert client.post("/query/", params={"hash": known}).json()[0]["post_id"] == 3
    assert client.post("/images/8/", params={"hash": known}).json()["post_id"] == 8
    assert client.delete("/images/8/").json() == {"post_id": 8}
    assert client.request("DELETE", "/images/", content=b"[8]").json() == {"post_ids": [8]}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/images/3", "DELETE, GET, HEAD, POST"),
        ("/images", "DELETE, POST"),
        ("/query", "GET, HEAD, POST"),
        ("/status", "GET, HEAD"),
    ],
)
def test_405_names_every_method(client: httpx.Client, path: str, allowed: str) -> None:
    for url in (path, f"{path}/"):
        answer = client.put(url)
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/json")
        assert answer.json()["message"]
        assert set(allowed.split(", ")) <= set(answer.headers["allow"].split(", "))


def test_an_unknown_path_is_json_and_leads_nowhere(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    for path in ("/status/", "/nowhere/", "//elsewhere.example/", "/images/3/"):
        connection.request("GET", path, headers={"Host": "elsewhere.example"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in {200, 404}
        assert answer.getheader("location") is None
        assert isinstance(json.loads(body), dict)
    connection.close()


def test_malformed_requests_write_no_log_lines(server: ServerProcess, client: httpx.Client) -> None:
    before = server.log.stat().st_size
    for tail in (b"\r\n--xyz--\r\nmore after the end", b"\r\n--xyz--zzz", b"\r\n--xyzabc\r\n"):
        client.post("/query", **form("Content-Disposition: form-data; name=file", body=b"x", tail=tail))
    written = server.log.read_bytes()[before:].decode()
    assert "python_multipart" not in written


def test_the_access_log_logs(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = tmp_path_factory.mktemp("log") / "iqdb.sqlite"
    with embedded_server(database, environment={"IQDB_ACCESS_LOG": "true"}) as server:
        server.client.get("/status?a=b%0Ac")
        server.client.get("/nowhere")
        written = server.log.read_text()
    assert '"GET /status?a=b%0Ac HTTP/1.1" 200' in written
    assert '"GET /nowhere HTTP/1.1" 404' in written


def test_a_foreign_page_cannot_write(client: httpx.Client, known: str) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    for method, path in (("POST", "/images/7"), ("DELETE", "/images/3"), ("POST", "/images")):
        answer = client.request(method, path, params={"hash": known}, headers=foreign)
        assert (answer.status_code, "another site" in answer.json()["message"]) == (403, True)
    assert client.post("/query", params={"hash": known}, headers=foreign).status_code == 200
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert client.post("/images/7", params={"hash": known}, headers=own).status_code == 200
    assert client.delete("/images/7", headers=own).status_code == 200


def test_bodies_of_ids_and_questions_are_limited(client: httpx.Client) -> None:
    answer = client.request("DELETE", "/images", content=b"[" + b" " * 70_000 + b"1]")
    assert answer.status_code == 413
    headers = {"Content-Type": "application/json"}
    answer = client.request("GET", "/query", content=b" " * 5_000_000, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["message"] == "the body is larger than the limit of 4,194,304 bytes"
