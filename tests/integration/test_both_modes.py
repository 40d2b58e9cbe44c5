"""The embedded and the distributed server answer the same requests alike: what one takes the other takes."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.ingestion.acceptor import GROUP_JOBS
from api.web.reading.copies import NEGATIVE, TURNS
from api.web.reading.window import MAX_EXCLUDED, MAX_LIMIT, MAX_OFFSET
from iqdb_core import codec
from iqdb_core.store import open_store
from tests.fixtures import pictures, stores
from tests.fixtures.cluster import running_cluster
from tests.fixtures.noise import noise_png
from tests.fixtures.screenshots import in_chat, photo
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

IMAGES = MAX_LIMIT + 200
SMALL = [pictures.picture(seed, (64, 48)) for seed in range(4)]
MAX_UPLOAD_BYTES = 50_000
LARGE = noise_png(1, 200)
"""More bytes than the servers take."""
SETTINGS = {"IQDB_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
NEW_ID = 10_000
SCREENSHOT_ID = 20_000


@pytest.fixture(scope="module")
def modes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    """Clients of both servers, which begin with the same images."""
    folder = tmp_path_factory.mktemp("modes")
    first, second = folder / "first.sqlite", folder / "second.sqlite"
    store = open_store(str(first))
    store.apply([stores.put(number, number + 1, number // 2) for number in range(IMAGES)])
    store.close()
    shutil.copy(first, second)
    with (
        embedded_server(first, environment=SETTINGS) as embedded,
        running_cluster(folder, str(second), **SETTINGS) as cluster,
    ):
        yield {"embedded": embedded.client, "distributed": cluster.client}


numbers = st.floats(-10, 110) | st.sampled_from([0, 1, 50, 1e-300, 1e300])
turns = st.sampled_from([*TURNS, *(f"{turn},{NEGATIVE}" for turn in TURNS), "left"])
ids = st.integers(0, IMAGES) | st.just(2**63 - 1)
excluded = st.lists(ids, min_size=1, max_size=3) | st.just(list(range(MAX_EXCLUDED)))
questions = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.integers(0, MAX_LIMIT + 1) | st.sampled_from([1, MAX_LIMIT]),
        "offset": st.integers(0, 300) | st.sampled_from([MAX_LIMIT, MAX_OFFSET, MAX_OFFSET + 1]),
        "exclude": excluded.map(lambda ids: ",".join(map(str, ids))),
        "min_score": numbers,
        "mode": st.just("sketch"),
        "find": st.just("copies"),
        "turns": turns,
        "min_likelihood": st.floats(-0.1, 1.1),
        "min_detail": numbers,
    },
)
pictures_asked = st.one_of(
    ids.map(lambda image_id: {"post_id": image_id}),
    st.integers(0, IMAGES).map(lambda number: {"hash": codec.to_hash(stores.signature(number))}),
)


@settings(max_examples=60)
@given(question=questions, picture=pictures_asked)
@example(question={"mode": "sketch", "limit": MAX_LIMIT, "offset": 1}, picture={"post_id": 1})
@example(question={"limit": MAX_LIMIT, "offset": MAX_OFFSET}, picture={"post_id": 1})
@example(question={"find": "copies", "limit": MAX_LIMIT, "offset": MAX_OFFSET}, picture={"post_id": 1})
def test_queries_are_answered_alike(
    modes: dict[str, httpx.Client], question: dict[str, Any], picture: dict[str, Any]
) -> None:
    answers = [client.post("/query", params=question | picture) for client in modes.values()]
    assert answers[0].status_code in {200, 400, 404}
    assert answers[0].status_code == answers[1].status_code, answers[1].text
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers.get("x-query-detail") == answers[1].headers.get("x-query-detail")


@settings(max_examples=10)
@given(
    question=st.fixed_dictionaries(
        {},
        optional={
            "after": ids,
            "min_likelihood": st.floats(-0.1, 1.1),
            "min_detail": numbers,
            "min_score": st.floats(60, 100),
        },
    )
)
def test_duplicates_are_told_alike(modes: dict[str, httpx.Client], question: dict[str, Any]) -> None:
    answers = [client.get("/duplicates", params=question) for client in modes.values()]
    assert answers[0].status_code == answers[1].status_code, answers[1].text
    # A page ends by time, too: what one told and the other did not has no say.
    first, second = (answer.json() for answer in answers)
    least = min(len(body.get("groups", [])) for body in (first, second))
    assert first.get("groups", [])[:least] == second.get("groups", [])[:least]


def test_another_picture_in_the_same_app_is_told_alike(modes: dict[str, httpx.Client]) -> None:
    """Which takes the size of the picture that was sent, on the way to a query node too."""
    known, *asked = (
        pictures.encoded(in_chat(photo(number), number), "JPEG", quality=50) for number in (0, 1, 26)
    )
    found: list[list[dict[str, Any]]] = []
    for client in modes.values():
        assert client.post(f"/images/{SCREENSHOT_ID}", files={"file": known}).status_code == 200
        answers = [
            client.post("/query", params={"find": "copies"}, files={"file": picture}) for picture in asked
        ]
        found.append([answer.json()[0] for answer in answers])
        assert client.delete(f"/images/{SCREENSHOT_ID}").status_code == 200
    assert found[0] == found[1]
    assert [(best["post_id"], best["likelihood"]) for best in found[0]] == [(SCREENSHOT_ID, 0.5)] * len(asked)


def batch(client: httpx.Client, files: dict[int, bytes], **options: Any) -> dict[int, int]:
    """Add a batch and return the status of each of its images."""
    assert len(LARGE) > MAX_UPLOAD_BYTES
    parts = [(str(image_id), ("x", data)) for image_id, data in files.items()]
    answer = client.post("/images", files=parts, **options)
    assert answer.status_code in {200, 202}, answer.text
    return {image["post_id"]: image["status"] for image in answer.json()["images"]}


def test_an_oversized_file_spoils_no_batch(modes: dict[str, httpx.Client]) -> None:
    files = {NEW_ID: SMALL[0], NEW_ID + 1: LARGE, NEW_ID + 2: SMALL[1]}
    for client in modes.values():
        assert client.delete(f"/images/{NEW_ID + 1}").status_code == 200
        assert batch(client, files) == {NEW_ID: 200, NEW_ID + 1: 413, NEW_ID + 2: 200}
        assert batch(client, {NEW_ID + 3: LARGE}) == {NEW_ID + 3: 413}
        assert client.get(f"/images/{NEW_ID + 2}").status_code == 200
        assert client.get(f"/images/{NEW_ID + 1}").status_code == 404


def is_done(client: httpx.Client, job_id: str) -> bool:
    return bool(client.get(f"/jobs/{job_id}").json()["state"] == "done")


def test_every_accepted_image_of_a_large_batch_has_its_job(modes: dict[str, httpx.Client]) -> None:
    """Some were accepted before the fault of another one is seen."""
    bad = GROUP_JOBS + 7
    files = {NEW_ID + number: SMALL[number % 4] for number in range(GROUP_JOBS + 20)}
    files[NEW_ID + bad] = LARGE
    parts = [(str(image_id), ("x", data)) for image_id, data in files.items()]
    for client in modes.values():
        answer = client.post("/images?wait=false", files=parts)
        images = answer.json()["images"]
        assert [image["post_id"] for image in images] == list(files)
        assert images[bad]["status"] == 413
        good = images[:bad] + images[bad + 1 :]
        if answer.status_code == 202:
            for image in good:
                wait_until(partial(is_done, client, image["job_id"]), 60)
        else:
            assert {image["status"] for image in good} == {200}
