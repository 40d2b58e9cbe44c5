"""IQDB's API as its clients use it, against a real server process."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from iqdb_core import codec
from iqdb_core.signature import from_image_bytes
from tests.fixtures import pictures
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with embedded_server(tmp_path_factory.mktemp("http") / "iqdb.sqlite") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """Yield a client of a server that holds no images, and leave none behind."""
    yield server.client
    known = server.client.post("/query?limit=1000", data={"hash": SOME_HASH}).json()
    for match in known:
        server.client.delete(f"/images/{match['post_id']}")
    assert server.client.get("/status").json()["images"] == 0


SOME_HASH = pictures.golden()[0][1]


def picture(seed: int, size: tuple[int, int] = (200, 150)) -> dict[str, tuple[str, bytes]]:
    return {"file": ("picture.png", pictures.picture(seed, size))}


def test_add_answers_id_hash_and_signature(client: httpx.Client) -> None:
    path, known_hash = pictures.golden()[0]
    answer = client.post("/images/1234", files={"file": path.read_bytes()})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["post_id", "hash", "signature"]
    assert body["post_id"] == 1234
    assert body["hash"] == known_hash
    averages = struct.unpack(">3d", bytes.fromhex(known_hash[5:53]))
    assert body["signature"]["avglf"] == list(averages)
    positions = np.frombuffer(bytes.fromhex(known_hash[53:]), ">i2").reshape(3, 40)
    assert body["signature"]["sig"] == positions.tolist()


def test_query_by_file_finds_the_image_first(client: httpx.Client) -> None:
    for image_id in (1, 2, 3):
        assert client.post(f"/images/{image_id}", files=picture(image_id)).status_code == 200
    matches = client.post("/query?limit=2", files=picture(2)).json()
    assert matches[0]["post_id"] == 2
    assert len(matches) == 2
    assert list(matches[0]) == ["post_id", "hash", "signature", "score"]
    assert matches[0]["score"] == pytest.approx(100, abs=0.001)
    assert matches[0]["score"] > matches[1]["score"]


def test_query_by_hash_with_an_empty_body(client: httpx.Client) -> None:
    added = client.post("/images/7", files=picture(7)).json()
    for request in (
        {"params": {"hash": added["hash"], "limit": 10}},
        {"params": {"hash": added["hash"].removeprefix("iqdb_")}},
        {"data": {"hash": added["hash"], "limit": "5"}},
    ):
        answer = client.post("/query", **request)
        assert answer.status_code == 200, answer.text
        assert answer.json()[0]["post_id"] == 7


def test_a_known_id_is_replaced(client: httpx.Client) -> None:
    first = client.post("/images/5", files=picture(1)).json()
    second = client.post("/images/5", files=picture(2)).json()
    assert first["hash"] != second["hash"]
    assert client.get("/status").json()["images"] == 1
    assert client.get("/images/5").json() == second
    matches = client.post("/query", data={"hash": first["hash"]}).json()
    assert [match["hash"] for match in matches] == [second["hash"]]


def test_delete_is_seen_at_once_and_unknown_ids_are_fine(client: httpx.Client) -> None:
    client.post("/images/5", files=picture(1))
    for _ in range(2):
        answer = client.delete("/images/5")
        assert (answer.status_code, answer.json()) == (200, {"post_id": 5})
        assert client.post("/query", files=picture(1)).json() == []
    assert client.get("/images/5").status_code == 404


def test_e621_dialect(client: httpx.Client) -> None:
    plane = np.random.default_rng(3).integers(0, 256, (3, 16384)).tolist()
    channels = dict(zip("rgb", plane, strict=True))
    added = client.post("/images/9", json={"channels": channels})
    assert added.status_code == 200, added.text
    assert list(added.json()) == ["post_id", "hash"]
    assert len(added.json()["hash"]) == 528
    for body in ({"channels": channels}, {"hash": added.json()["hash"]}, {"post_id": 9}):
        answer = client.post("/query", json={**body, "limit": 3, "min_score": 50})
        assert answer.status_code == 200, answer.text
        (match,) = answer.json()
        assert match["post_id"] == 9
        assert match["hash"] == added.json()["hash"]
        assert "signature" not in match
        assert match["score"] == pytest.approx(100, abs=0.001)


def test_black_image_is_found(client: httpx.Client) -> None:
    files = {"file": pictures.flat((0, 0, 0))}
    client.post("/images/1", files=files)
    assert client.post("/query", files=files).json()[0]["post_id"] == 1
    assert client.get("/status").json()["images"] == 1


@pytest.mark.parametrize("image_id", [0, 2**63 - 1])
def test_ids_at_the_ends_of_their_range(client: httpx.Client, image_id: int) -> None:
    assert client.post(f"/images/{image_id}", files=picture(1)).json()["post_id"] == image_id
    assert client.post("/query", files=picture(1)).json()[0]["post_id"] == image_id
    assert client.get(f"/images/{image_id}").status_code == 200


def test_limits_and_min_score(client: httpx.Client) -> None:
    for image_id in range(12):
        client.post(f"/images/{image_id}", files=picture(image_id))
    ask = {"hash": client.get("/images/3").json()["hash"]}
    assert len(client.post("/query", params=ask).json()) == 10
    assert len(client.post("/query", params={**ask, "limit": 1000}).json()) == 12
    scores = [match["score"] for match in client.post("/query", params={**ask, "limit": 1000}).json()]
    assert scores == sorted(scores, reverse=True)
    bar = scores[3]
    kept = client.post("/query", params={**ask, "min_score": bar}).json()
    assert [match["score"] for match in kept] == scores[:4]


BAD_REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/images/abc", {"files": picture(1)}),
    ("POST", "/images/-1", {"files": picture(1)}),
    ("POST", f"/images/{2**63}", {"files": picture(1)}),
    ("POST", "/images/%D9%A1", {"files": picture(1)}),
    ("POST", "/images/1", {}),
    ("POST", "/images/1", {"data": {"file": "not a file"}}),
    ("POST", "/images/1", {"content": b"raw", "headers": {"Content-Type": "text/plain"}}),
    ("POST", "/images/1", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/images/1", {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}}),
    (
        "POST",
        "/images/1",
        {"content": b"--x\r\nrubbish", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ),
    ("POST", "/images/1", {"json": []}),
    ("POST", "/images/1", {"json": {}}),
    ("POST", "/images/1", {"json": {"post_id": 3}}),
    ("POST", "/images/1", {"json": {"channels": {"r": [1], "g": [1], "b": [1]}}}),
    ("POST", "/images/1", {"json": {"channels": {"r": [256] * 16384, "g": [0] * 16384, "b": [0] * 16384}}}),
    ("POST", "/images/1", {"json": {"channels": {"r": [0.5] * 16384, "g": [0] * 16384, "b": [0] * 16384}}}),
    ("POST", "/images/1", {"json": {"channels": "rgb"}}),
    ("DELETE", "/images/x", {}),
    ("GET", "/images/1.0", {}),
    ("POST", "/query", {}),
    ("POST", "/query", {"params": {"hash": ""}}),
    ("POST", "/query", {"params": {"hash": "iqdb_12"}}),
    ("POST", "/query", {"params": {"hash": "iqdb_" + "0" * 528}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH + "0"}}),
    ("POST", "/query", {"params": {"hash": "7ff0000000000000" + SOME_HASH[21:]}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "limit": "0"}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "limit": "1001"}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "limit": "-1"}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "limit": "ten"}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "limit": "1" * 5000}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "min_score": "nan"}}),
    ("POST", "/query", {"params": {"hash": SOME_HASH, "post_id": "1"}}),
    ("POST", "/query", {"params": {"post_id": "1"}, "files": picture(1)}),
    ("POST", "/query", {"content": b"{broken", "headers": {"Content-Type": "text/plain"}}),
    ("POST", "/query", {"json": {"hash": 3}}),
    ("POST", "/query", {"json": {"post_id": True}}),
    ("POST", "/query", {"json": {"post_id": -1}}),
    ("POST", "/query", {"json": {"hash": SOME_HASH, "limit": 0}}),
    ("POST", "/query", {"json": {"hash": SOME_HASH, "limit": 1.5}}),
    ("POST", "/query", {"json": {"hash": SOME_HASH, "min_score": "high"}}),
    ("POST", "/query", {"json": {"hash": SOME_HASH, "post_id": 1}}),
    ("POST", "/query", {"content": b"[" * 5000, "headers": {"Content-Type": "application/json"}}),
    ("POST", "/query", {"content": b'"\xff"', "headers": {"Content-Type": "application/json"}}),
    ("DELETE", "/images", {}),
    ("GET", "/jobs?state=lost", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), BAD_REQUESTS)
def test_malformed_requests_are_answered_400_with_a_message(
    client: httpx.Client, method: str, path: str, request_: dict[str, Any]
) -> None:
    answer = client.request(method, path, **request_)
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["message"], str)
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/images/77", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/images/77", 405),
        ("GET", "/jobs/77", 404),
    ],
)
def test_other_refusals_are_json_too(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["message"] not in {"", "Not Found"}


def test_query_by_unknown_id_is_404(client: httpx.Client) -> None:
    answer = client.post("/query", json={"post_id": 123456})
    assert (answer.status_code, "123456" in answer.json()["message"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "reason"), pictures.bad_files(), ids=lambda value: getattr(value, "name", value)
)
def test_bad_files_are_refused_and_nothing_is_stored(client: httpx.Client, path: Path, reason: str) -> None:
    expected = 413 if reason == "ImageTooLarge" else 422
    for target in ("/images/1", "/query"):
        answer = client.post(target, files={"file": (path.name, path.read_bytes())})
        assert answer.status_code == expected, answer.text
        assert answer.json()["message"]
    assert client.get("/status").json()["images"] == 0


def test_an_empty_file_is_called_empty(client: httpx.Client) -> None:
    for target in ("/images/1", "/query"):
        answer = client.post(target, files={"file": ("x.jpg", b"")})
        assert (answer.status_code, answer.json()["message"]) == (422, "the file is empty")
    answer = client.post("/images", files=[("1", ("x.jpg", b"")), ("2", ("y.jpg", b"GIF"))])
    assert [image["message"] == "the file is empty" for image in answer.json()["images"]] == [True, False]


def test_the_name_of_a_file_in_its_place_is_told(client: httpx.Client) -> None:
    """As `curl -F file=a.jpg` sends it, without the `@`."""
    answer = client.post("/query", files={"file": (None, b"pictures/a.jpg")})
    said = "this is not an image in a supported format, but the text 'pictures/a.jpg'"
    assert (answer.status_code, answer.json()["message"]) == (422, said)


def test_batch_has_an_outcome_per_image(client: httpx.Client) -> None:
    files = [(str(number), pictures.picture(number, (60, 40))) for number in range(5)]
    parts = [*((name, ("x", data)) for name, data in files), ("99", ("bad", b"no image"))]
    answer = client.post("/images", files=parts, data={"50": SOME_HASH, "51": "nonsense"})
    assert answer.status_code == 200, answer.text
    by_id = {image["post_id"]: image for image in answer.json()["images"]}
    assert {number: by_id[number]["status"] for number in by_id} == {
        **dict.fromkeys(range(5), 200),
        50: 200,
        51: 400,
        99: 422,
    }
    assert by_id[99]["message"]
    assert by_id[50]["hash"] == SOME_HASH
    assert client.get("/status").json()["images"] == 6
    answer = client.request("DELETE", "/images", json=[0, 1, 2, 50, 1000])
    assert answer.json() == {"post_ids": [0, 1, 2, 50, 1000]}
    assert client.get("/status").json()["images"] == 2


def test_batch_refuses_repeated_and_bad_ids_whole(client: httpx.Client) -> None:
    data = pictures.picture(1, (20, 20))
    refused = (
        (["1", "1"], "a batch names an id more than once"),
        (["x"], "an id is"),
        (["file"], "POST /images/ID"),
    )
    for names, words in refused:
        answer = client.post("/images", files=[(name, data) for name in names])
        assert (answer.status_code, words in answer.json()["message"]) == (400, True), answer.text
    assert client.get("/status").json()["images"] == 0


def test_health_and_description(client: httpx.Client) -> None:
    assert client.get("/live").json() == {"live": True}
    assert client.get("/ready").json() == {"ready": True}
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/images/{image_id}", "/query", "/status", "/images", "/jobs/{job_id}"} <= set(paths)


def test_status_counts_and_follows(client: httpx.Client) -> None:
    client.post("/images/1", files=picture(1))
    body = client.get("/status").json()
    assert body["images"] == 1
    assert body["lag_seq"] == 0
    assert body["follower"] == "following"


def test_the_images_table_has_iqdbs_form(client: httpx.Client, server: ServerProcess) -> None:
    added = client.post("/images/31", files=picture(31)).json()
    database = server.log.with_suffix(".sqlite")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        row = connection.execute("SELECT post_id, avglf1, avglf2, avglf3, sig FROM images").fetchone()
    connection.close()
    assert row[0] == 31
    assert list(row[1:4]) == added["signature"]["avglf"]
    assert np.frombuffer(row[4], "<i2").reshape(3, 40).tolist() == added["signature"]["sig"]


def test_a_sketch_is_ranked_by_its_own_weights(client: httpx.Client) -> None:
    for number in range(1, 9):
        client.post(f"/images/{number}", files=picture(number))
    painted = picture(3, (128, 96))
    model = NaiveIndex({n: codec.from_hash(client.get(f"/images/{n}").json()["hash"]) for n in range(1, 9)})
    asked = from_image_bytes(painted["file"][1])
    for mode, is_sketch in ((None, False), ("sketch", True)):
        answer = client.post("/query", params={} if mode is None else {"mode": mode}, files=painted)
        found = [(match["post_id"], match["score"]) for match in answer.json()]
        assert found == [(match.image_id, match.score) for match in model.query(asked, is_sketch=is_sketch)]
    assert client.post("/query", json={"post_id": 3, "mode": "sketch"}).json()[0]["post_id"] == 3
    for wrong in ({"mode": "dream"}, {"mode": "sketch", "find": "copies"}):
        assert client.post("/query", params=wrong, files=painted).status_code == 400
