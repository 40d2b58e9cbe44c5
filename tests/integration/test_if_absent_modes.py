"""Adds that are to replace no image, on the embedded and on the distributed server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api.roles.command_parts.remote import ServerTarget
from api.roles.command_parts.target import Entry
from iqdb_client import AsyncClient, Client, Refused
from iqdb_core import codec
from iqdb_core.store import open_store
from tests.fixtures import pictures, stores
from tests.fixtures.cluster import running_cluster
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

PICTURES = [pictures.picture(seed, (64, 48)) for seed in range(4)]
HASHES = [codec.to_hash(stores.signature(number)) for number in range(4)]
TAKEN = {"message": "an image has the id 7 already"}


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, str]]:
    """A client of a server, and the address of its database."""
    folder = tmp_path_factory.mktemp("modes")
    database = folder / "iqdb.sqlite"
    if request.param == "embedded":
        with embedded_server(database) as running:
            yield running.client, str(database)
    else:
        with running_cluster(folder, str(database)) as cluster:
            yield cluster.client, str(database)


@pytest.fixture
def client(server: tuple[httpx.Client, str]) -> httpx.Client:
    """A client of a server that has one image, 7."""
    client = server[0]
    assert client.request("DELETE", "/images", json=list(range(20))).status_code == 200
    assert client.post("/images/7", params={"hash": HASHES[0], "source": "theirs"}).status_code == 200
    return client


def is_untouched(client: httpx.Client) -> bool:
    """Tell whether image 7 is as it was."""
    body = client.get("/images/7").json()
    return bool((body["hash"], body["source"]) == (HASHES[0], "theirs"))


@pytest.mark.parametrize(
    "sent",
    [
        {"files": {"file": PICTURES[1]}, "params": {"if_absent": "true"}},
        {"files": {"file": PICTURES[1]}, "data": {"if_absent": "1"}},
        {"params": {"if_absent": "yes", "hash": HASHES[1], "source": "mine"}},
        {"json": {"hash": HASHES[1], "if_absent": True}},
        {"content": PICTURES[1], "headers": {"content-type": "image/jpeg"}, "params": {"if_absent": "True"}},
    ],
    ids=["file", "field", "hash", "json", "body"],
)
def test_an_image_that_is_there_stays(client: httpx.Client, sent: dict[str, Any]) -> None:
    answer = client.post("/images/7", **sent)
    assert (answer.status_code, answer.json()) == (409, TAKEN)
    assert is_untouched(client)
    assert client.post("/images/8", **sent).status_code == 200
    assert client.get("/images/8").status_code == 200
    assert client.delete("/images/8").status_code == 200
    assert client.post("/images/8", **sent).status_code == 200, "a deleted image is none"


@pytest.mark.parametrize("word", ["", "false", "0", "no"])
def test_without_the_wish_it_is_replaced(client: httpx.Client, word: str) -> None:
    assert client.post("/images/7", params={"hash": HASHES[1], "if_absent": word}).status_code == 200
    assert client.get("/images/7").json()["hash"] == HASHES[1]


@pytest.mark.parametrize(
    "sent",
    [
        {"params": {"hash": HASHES[1], "if_absent": "maybe"}},
        {"json": {"hash": HASHES[1], "if_absent": 1}},
        {"json": {"hash": HASHES[1], "if_absent": ["true"]}},
        {"files": {"file": PICTURES[1], "if_absent": ("x", b"true")}},
    ],
)
def test_what_is_neither_yes_nor_no_is_refused(client: httpx.Client, sent: dict[str, Any]) -> None:
    assert client.post("/images/7", **sent).status_code == 400
    assert is_untouched(client)


def test_each_image_of_a_batch_has_its_own_outcome(client: httpx.Client) -> None:
    parts = [("6", ("x", PICTURES[1])), ("7", ("x", PICTURES[2])), ("8", ("x", b"no picture"))]
    answer = client.post("/images?if_absent=true", files=parts)
    assert answer.status_code == 200
    outcomes = answer.json()["images"]
    assert [(one["post_id"], one["status"]) for one in outcomes] == [(6, 200), (7, 409), (8, 422)]
    assert outcomes[1]["message"] == TAKEN["message"]
    assert is_untouched(client)
    images = [{"post_id": number, "hash": HASHES[1]} for number in (7, 9)]
    for body, query in (({"images": images, "if_absent": True}, ""), ({"images": images}, "?if_absent=1")):
        answer = client.post(f"/images{query}", json=body)
        assert [one["status"] for one in answer.json()["images"]] == [409, 200]
        assert is_untouched(client)
        client.delete("/images/9")
    assert client.post("/images", json={"images": images, "if_absent": "maybe"}).status_code == 400


def test_a_job_tells_it_to_those_who_did_not_wait(client: httpx.Client) -> None:
    answer = client.post("/images/7", params={"hash": HASHES[1], "if_absent": "true", "wait": "false"})
    if answer.status_code == 202:
        where = answer.headers["location"]
        wait_until(lambda: client.get(where).json()["state"] == "failed", 60)
        assert client.get(where).json()["reason"] == TAKEN["message"]
    else:
        assert answer.status_code == 409
    assert is_untouched(client)


def test_both_clients_say_so(client: httpx.Client) -> None:
    url = str(client.base_url)
    with Client(url) as blocking:
        with pytest.raises(Refused, match="has the id 7 already") as refused:
            blocking.add(7, PICTURES[1], if_absent=True)
        assert refused.value.status == 409
        assert blocking.add(10, PICTURES[1], if_absent=True).post_id == 10
        (outcome,) = blocking.add_many({7: HASHES[1]}, if_absent=True)
        assert (outcome.status, outcome.image, outcome.reason) == (409, None, TAKEN["message"])

    async def awaited() -> None:
        async with AsyncClient(url) as iqdb:
            with pytest.raises(Refused, match="has the id 7 already"):
                await iqdb.add(7, HASHES[1], if_absent=True)
            outcomes = await iqdb.add_many({7: PICTURES[1], 11: PICTURES[2]}, if_absent=True)
            assert [one.status for one in outcomes] == [409, 200]

    asyncio.run(awaited())
    assert is_untouched(client)


def test_the_status_names_the_store(server: tuple[httpx.Client, str]) -> None:
    client, database = server
    store = open_store(database)
    assert client.get("/status").json()["store_id"] == store.store_id
    store.close()


def test_what_is_accepted_and_late_is_waited_for(tmp_path: Path) -> None:
    """`iqdb add` may not take an id for its own before the job says so."""
    database = str(tmp_path / "iqdb.sqlite")
    store = open_store(database)
    store.apply([stores.put(7, 1)])
    with (
        running_cluster(tmp_path, database, IQDB_ADD_TIMEOUT_S="0.001") as cluster,
        ServerTarget(cluster.apis[0].url, token=None, hash_here=False, max_pixels=10**8) as target,
    ):
        late = cluster.client.post("/images?if_absent=true", files=[("5", ("x", PICTURES[0]))])
        assert late.status_code == 202
        told = target.add(
            [
                Entry(6, b"no picture", "mine", if_absent=True),
                Entry(7, PICTURES[1], "mine", if_absent=True),
                Entry(8, PICTURES[2], "mine", if_absent=True),
            ]
        )
    assert [(one.is_taken, one.reason is None) for one in told] == [
        (False, False),
        (True, True),
        (False, True),
    ]
    assert store.sources_of([6, 7, 8]) == {8: "mine"}
    store.close()


def test_who_says_anywhere_that_nothing_is_replaced_is_believed(client: httpx.Client) -> None:
    image = {"post_id": 7, "hash": HASHES[1]}
    answer = client.post("/images", json={"images": [{**image, "if_absent": True}]})
    assert [one["status"] for one in answer.json()["images"]] == [409]
    answer = client.post("/images", json={"images": [{**image, "if_absent": "perhaps"}]})
    assert [one["status"] for one in answer.json()["images"]] == [400]
    for path, body in (("/images/7", image), ("/images", {"images": [image]})):
        for in_query, in_body in (("true", False), ("false", True)):
            answer = client.post(path, params={"if_absent": in_query}, json={**body, "if_absent": in_body})
            told = answer.json()["images"][0]["status"] if "images" in answer.json() else answer.status_code
            assert told == 409, (path, in_query)
    assert is_untouched(client)
