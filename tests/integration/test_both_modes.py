"""The embedded and the distributed server answer the same requests alike: what one takes the other takes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.web.reading.copies import MAX_EXCLUDED, MAX_OFFSET, NEGATIVE, TURNS
from api.web.reading.requests import MAX_LIMIT
from iqdb_core import codec
from iqdb_core.store import open_store
from tests.fixtures import stores
from tests.fixtures.cluster import running_cluster
from tests.fixtures.servers import embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

IMAGES = MAX_LIMIT + 200


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
        embedded_server(first) as embedded,
        running_cluster(folder, str(second)) as cluster,
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
