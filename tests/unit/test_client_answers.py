"""What the client makes of answers that are late, or of something that is no server of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iqdb_client import AsyncClient, Late, Refused, Unavailable
from iqdb_core.settings import Settings
from tests.fixtures.http_peer import Answer, HttpPeer

CALLS: list[Callable[[AsyncClient], Awaitable[Any]]] = [
    lambda client: client.status(),
    lambda client: client.get(1),
    lambda client: client.add(1, "iqdb_0"),
    lambda client: client.delete(1),
    lambda client: client.missing([1]),
    lambda client: client.duplicates(),
    lambda client: client.jobs(),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"[]", b"7", b'{"hello": "world"}', b""])
def test_who_is_no_server_of_ours_is_said_to_be_none(
    call: Callable[[AsyncClient], Awaitable[Any]], body: bytes
) -> None:
    async def scenario() -> None:
        async with HttpPeer(lambda *_: (200, {}, body)) as peer, AsyncClient(peer.url) as client:
            with pytest.raises(Refused, match="no iqdb server"):
                await call(client)
            assert len(peer.requests) == 1

    asyncio.run(scenario())


def test_all_deletes_are_sent_though_some_are_late() -> None:
    sizes: list[int] = []

    def late(_: str, __: str) -> Answer:
        number = len(sizes)
        sizes.append(number)
        body: dict[str, Any] = {"post_ids": []}
        if number != 1:
            body["jobs"] = [{"post_id": number, "job_id": f"job{number}"}]
        return 202 if "jobs" in body else 200, {}, json.dumps(body).encode()

    async def scenario() -> None:
        async with HttpPeer(late) as peer, AsyncClient(peer.url) as client:
            with pytest.raises(Late) as told:
                await client.delete(*range(2500))
            assert told.value.job_ids == ["job0", "job2"]
            assert peer.requests == ["DELETE /images"] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("before", "token"),
    [("", None), ("ftp://", None), ("http://", "two\nlines")],
    ids=["bare", "ftp", "token"],
)
def test_what_can_never_be_sent_is_not_tried_again(before: str, token: str | None) -> None:
    waits: list[str] = []

    async def scenario() -> None:
        async with HttpPeer(lambda *_: (200, {}, b"{}")) as peer:
            url = before + peer.url.removeprefix("http://")
            client = AsyncClient(url, token=token, on_wait=lambda cause, _: waits.append(cause))
            async with client:
                with pytest.raises(Unavailable):
                    await client.status()

    asyncio.run(scenario())
    assert waits == []


def test_a_client_waits_for_longer_than_the_server() -> None:
    """Else a write that is late seems lost, and is queued once more with every try."""

    async def scenario() -> None:
        async with AsyncClient("http://localhost") as client:
            assert client._http.timeout.read is not None
            assert client._http.timeout.read > Settings().add_timeout_s

    asyncio.run(scenario())
