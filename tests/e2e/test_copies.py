"""Searching for copies, batches of queries, duplicates and sources, over HTTP in both dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageOps

from tests.fixtures import pictures
from tests.fixtures.cluster import running_cluster
from tests.fixtures.servers import embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:12]
BORDERED, MIRRORED, TWICE = 3, 5, 7


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Yield a client of a server that knows some photos, one of them twice."""
    folder = tmp_path_factory.mktemp("copies")
    if request.param == "embedded":
        with embedded_server(folder / "iqdb.sqlite") as server:
            fill(server.client)
            yield server.client
        return
    with running_cluster(folder, f"sqlite:///{folder / 'store.sqlite'}") as cluster:
        fill(cluster.apis[0].client)
        yield cluster.apis[0].client


def fill(client: httpx.Client) -> None:
    parts: list[tuple[str, Any]] = [
        (str(number), ("p.jpg", photo.read_bytes())) for number, photo in enumerate(PHOTOS)
    ]
    parts += [(f"{number}.source", (None, photo.name.encode())) for number, photo in enumerate(PHOTOS)]
    parts.append(("20", ("again.jpg", as_jpeg(opened(TWICE).resize((300, 200))))))
    answer = client.post("/images", files=parts)
    assert answer.status_code == 200, answer.text
    assert {one["status"] for one in answer.json()["images"]} == {200}


def opened(number: int) -> Image.Image:
    with Image.open(PHOTOS[number]) as photo:
        return photo.convert("RGB")


def as_jpeg(picture: Image.Image) -> bytes:
    return pictures.encoded(picture, "JPEG", quality=85)


def test_a_bordered_copy_is_found_by_its_part(client: httpx.Client) -> None:
    photo = opened(BORDERED)
    width, height = photo.size
    margin = width // 5
    page = as_jpeg(ImageOps.expand(photo, border=margin, fill="black"))
    answer = client.post("/query", params={"find": "copies"}, files={"file": page})
    best = answer.json()[0]
    assert best["post_id"] == BORDERED
    assert best["likelihood"] > 0.99
    assert best["source"] == PHOTOS[BORDERED].name
    part = best["part"]
    assert abs(part["x"] - margin) <= 2
    assert abs(part["y"] - margin) <= 2
    assert abs(part["width"] - width) <= 4
    assert abs(part["height"] - height) <= 4
    assert float(answer.headers["X-Query-Detail"]) > 0


def test_a_mirrored_copy_says_so(client: httpx.Client) -> None:
    mirrored = as_jpeg(ImageOps.mirror(opened(MIRRORED)))
    best = client.post("/query?find=copies&limit=1", files={"file": mirrored}).json()[0]
    assert (best["post_id"], best["turn"]) == (MIRRORED, "mirror")
    turned = as_jpeg(opened(MIRRORED).transpose(Image.Transpose.ROTATE_90))
    best = client.post("/query?turns=all&limit=1", files={"file": turned}).json()[0]
    assert best["post_id"] == MIRRORED
    assert best["turn"].startswith("rotate")
    assert "part" not in best


def test_both_dialects_take_the_same_parameters(client: httpx.Client) -> None:
    known = client.get(f"/images/{TWICE}").json()["hash"]
    danbooru = client.post("/query", data={"hash": known, "find": "copies", "limit": "2"}).json()
    e621 = client.post("/query", json={"hash": known, "find": "copies", "limit": 2}).json()
    assert [one["post_id"] for one in danbooru] == [one["post_id"] for one in e621] == [TWICE, 20]
    assert "signature" in danbooru[0]
    assert "signature" not in e621[0]
    assert danbooru[0]["likelihood"] == e621[0]["likelihood"]


def test_a_known_image_does_not_find_itself(client: httpx.Client) -> None:
    found = client.post(f"/query?post_id={TWICE}&find=copies&min_likelihood=0.9").json()
    assert [one["post_id"] for one in found] == [20]


@pytest.mark.parametrize(
    "words",
    [
        {"find": "copies"},
        {"find": "copies", "turns": "all,negative", "min_likelihood": "1e-9"},
        {"turns": "all"},
        {"find": "copies", "exclude": f"{TWICE},20"},
    ],
)
@pytest.mark.parametrize("picture", ["known", "page"])
def test_pages_of_a_search_for_copies_fit_together(
    client: httpx.Client, picture: str, words: dict[str, str]
) -> None:
    page = as_jpeg(ImageOps.expand(opened(BORDERED), border=90, fill="black"))
    asked: dict[str, Any] = {"params": words | {"post_id": str(TWICE)}}
    if picture == "page":
        asked = {"params": words, "files": {"file": page}}

    def found(limit: int, offset: int) -> list[Any]:
        asked["params"] |= {"limit": str(limit), "offset": str(offset)}
        answer = client.post("/query", **asked)
        assert answer.status_code == 200, answer.text
        matches: list[Any] = answer.json()
        return matches

    everything = found(100, 0)
    assert len(everything) > 5
    pages: list[Any] = []
    while matches := found(4, len(pages)):
        pages += matches
    assert pages == everything


def test_windows_and_exclusions_hold_for_plain_queries_too(client: httpx.Client) -> None:
    known = client.get("/images/0").json()["hash"]
    every = [one["post_id"] for one in client.post("/query", data={"hash": known, "limit": "8"}).json()]
    some = client.post("/query", data={"hash": known, "limit": "3", "offset": "2"}).json()
    assert [one["post_id"] for one in some] == every[2:5]
    left = client.post("/query", json={"hash": known, "limit": 4, "exclude": [every[0], every[2]]}).json()
    assert [one["post_id"] for one in left] == [every[1], *every[3:6]]


def test_plain_queries_have_no_new_fields(client: httpx.Client) -> None:
    answer = client.post("/query", files={"file": PHOTOS[0].read_bytes()})
    assert list(answer.json()[0]) == ["post_id", "hash", "signature", "score"]
    assert "X-Query-Detail" not in answer.headers


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("find=things", "find must be"),
        ("find=copies&turns=up", "turns must be one of"),
        ("find=copies&min_likelihood=2", "min_likelihood"),
        ("find=copies&min_likelihood=x", "min_likelihood"),
        ("min_likelihood=0.5", "min_likelihood needs find=copies or turns"),
        ("min_detail=5", "min_detail needs find=copies or turns"),
        ("offset=-1", "offset"),
        ("exclude=1,x", "an id is"),
        ("exclude=" + ",".join(["1"] * 1001), "at most 1000"),
    ],
)
def test_what_is_not_understood_is_400(client: httpx.Client, words: str, reason: str) -> None:
    answer = client.post(f"/query?post_id=0&{words}")
    assert answer.status_code == 400
    assert reason in answer.json()["message"]


def test_a_batch_of_queries_answers_each(client: httpx.Client) -> None:
    known = client.get("/images/0").json()["hash"]
    body = {
        "queries": [{"hash": known}, {"post_id": TWICE}, {"post_id": 999}, {"hash": "nonsense"}],
        "limit": 2,
    }
    results = client.post("/query/batch?find=copies", json=body).json()["results"]
    assert [one["status"] for one in results] == [200, 200, 404, 400]
    assert [one["name"] for one in results] == ["0", "1", "2", "3"]
    assert results[0]["matches"][0]["post_id"] == 0
    assert results[1]["matches"][0]["post_id"] == 20
    assert all("message" in one for one in results[2:])
    files = {"a": PHOTOS[1].read_bytes(), "b": b"no picture"}
    results = client.post("/query/batch?limit=1", files=files).json()["results"]
    assert {one["name"]: one["status"] for one in results} == {"a": 200, "b": 422}
    assert results[0]["matches"][0]["post_id"] == 1
    too_many = client.post("/query/batch", json={"queries": [{"post_id": 1}] * 101})
    assert (too_many.status_code, "1 to 100 " in too_many.json()["message"]) == (400, True)


def test_duplicates_are_reported_in_groups(client: httpx.Client) -> None:
    answer = client.get("/duplicates").json()
    assert [group["post_ids"] for group in answer["groups"]] == [[TWICE, 20]]
    (pair,) = answer["groups"][0]["pairs"]
    assert pair["post_ids"] == [TWICE, 20]
    assert pair["likelihood"] > 0.99
    assert answer["looked_at"] == len(PHOTOS) + 1
    assert answer["next"] is None
    assert client.get(f"/duplicates?after={TWICE}").json()["groups"] == []
    assert client.get("/duplicates?min_likelihood=2").status_code == 400


def test_sources_are_kept_and_told(client: httpx.Client) -> None:
    assert client.get("/images/1").json()["source"] == PHOTOS[1].name
    assert "source" not in client.get("/images/20").json()
    where = "https://example.org/30"
    added = client.post("/images/30", data={"source": where}, files={"file": PHOTOS[0].read_bytes()})
    assert added.status_code == 200
    assert client.get("/images/30").json()["source"] == where
    long = client.post("/images/30", data={"source": "x" * 2001, "hash": added.json()["hash"]})
    assert long.status_code == 400
    client.delete("/images/30")
    painted = {"file": PHOTOS[1].read_bytes()}
    assert client.post("/query?mode=sketch", files=painted).json()[0]["source"] == PHOTOS[1].name
    assert "source" not in client.post("/query", files=painted).json()[0]


def test_a_damaged_picture_is_reported(client: httpx.Client) -> None:
    whole = client.post("/images/31", files={"file": PHOTOS[0].read_bytes()}).json()
    half = client.post("/images/31", files={"file": pictures.DAMAGED_HALF.read_bytes()}).json()
    assert "damaged" not in whole
    assert half["damaged"] is True
    for find in ("", "?find=copies"):
        for data, said in ((PHOTOS[0].read_bytes(), None), (pictures.DAMAGED_HALF.read_bytes(), "true")):
            assert client.post(f"/query{find}", files={"file": data}).headers.get("X-Query-Damaged") == said
    several = {"a": PHOTOS[0].read_bytes(), "b": pictures.DAMAGED_HALF.read_bytes()}
    results = client.post("/query/batch", files=several).json()["results"]
    assert [one.get("damaged") for one in results] == [None, True]
    client.delete("/images/31")
