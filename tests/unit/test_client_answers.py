"""What the client makes of answers that are late, or of something that is no server of ours."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import pytest

from iqdb_client import AsyncClient, Client, ClientError, Late, Refused, Unavailable
from iqdb_core.settings import Settings
from tests.fixtures.http_peer import Answer, HttpPeer, json_answer
from tests.fixtures.waiting import until

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


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["sec\udcff", "secret\n", "sec\nret", "sec\x01ret", "secret ", " secret"])
def test_a_token_that_no_server_can_have_is_told_when_the_client_is_made_and_not_shown(
    kind: type[Client], token: str
) -> None:
    with pytest.raises(ClientError, match=r"^the token must be text in UTF-8, without blanks") as told:
        kind("http://127.0.0.1:9", token=token)
    assert "sec" not in str(told.value)


def test_an_empty_token_is_none() -> None:
    """As where the environment is to have one and does not."""

    async def scenario() -> None:
        answer = json_answer(200, {"images": 3})
        async with HttpPeer(lambda *_: answer) as peer, AsyncClient(peer.url, token="") as client:
            assert (await client.status()).images == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [408, 502, 504])
def test_a_proxy_whose_server_is_away_is_asked_again(status: int) -> None:
    """Each answer of these statuses is a page of the proxy's; a 408 may be the server's own."""
    answers = [(status, {}, b"<html>Bad Gateway</html>"), json_answer(200, {"images": 3})]

    async def scenario() -> None:
        async with HttpPeer(lambda *_: answers.pop(0)) as peer, AsyncClient(peer.url) as client:
            assert (await client.status()).images == 3

    asyncio.run(scenario())


def test_a_redirect_tells_where_to() -> None:
    """As a proxy answers who leaves out the s of https: nobody goes there, a token least of all."""

    async def scenario() -> None:
        moved: Answer = (301, {"Location": "https://iqdb.example.org/status"}, b"<html>moved</html>")
        async with HttpPeer(lambda *_: moved) as peer, AsyncClient(peer.url) as client:
            for call in (client.status(), anext(client.export())):
                with pytest.raises(Refused, match=r"301.*it sends to https://iqdb\.example\.org/status$"):
                    await call

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.add(1, b"picture", source="\ud800"),
        lambda client: client.add(1, "iqdb_0", source="\ud800"),
        lambda client: client.add_many({1: b"picture"}, sources={1: "\ud800"}),
    ],
)
def test_text_that_is_none_is_told_by_both_clients(call: Callable[[Any], Any]) -> None:
    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9") as client:
            await call(client)

    with pytest.raises(ClientError, match="surrogates") as told:
        asyncio.run(ask())
    assert not told.value.retryable
    with Client("http://127.0.0.1:9") as client, pytest.raises(ClientError, match="surrogates"):
        call(client)


def test_an_answer_that_cannot_be_unpacked_is_the_clients_own_error() -> None:
    async def scenario() -> None:
        broken: Answer = (200, {"Content-Encoding": "gzip"}, b"no gzip")
        async with HttpPeer(lambda *_: broken) as peer:
            async with AsyncClient(peer.url, patience_s=0) as client:
                with pytest.raises(Unavailable):
                    await client.status()
                with pytest.raises(Unavailable):
                    [piece async for piece in client.export()]
            with Client(peer.url, patience_s=0) as blocking:
                with pytest.raises(Unavailable):
                    await asyncio.to_thread(blocking.status)
                with pytest.raises(Unavailable):
                    await asyncio.to_thread(lambda: list(blocking.export()))

    asyncio.run(scenario())


def test_an_export_as_a_file_is_waited_for_longer_than_other_answers() -> None:
    """The server sends nothing of it until it is whole."""

    async def scenario() -> None:
        async with HttpPeer(lambda *_: None) as peer:
            client = AsyncClient(peer.url, timeout_s=0.05, patience_s=0)
            blocking = Client(peer.url, timeout_s=0.05, patience_s=0)
            exports = [
                asyncio.ensure_future(anext(client.export("sqlite"))),
                asyncio.ensure_future(asyncio.to_thread(lambda: next(blocking.export("sqlite")))),
            ]
            await until(lambda: len(peer.requests) == len(exports))
            for _ in range(3):
                with pytest.raises(Unavailable, match=r"timed out|Timeout"):
                    await client.status()
            assert not any(export.done() for export in exports)
        for export in exports:
            with pytest.raises(Unavailable, match="disconnected"):
                await export
        await client.close()
        blocking.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("job_id", ["../status", "..", "a/b", "a b?c#d"])
def test_a_job_is_asked_for_below_the_path_of_jobs(job_id: str) -> None:
    async def scenario() -> None:
        body = {"job_id": job_id, "post_id": 1, "state": "done"}
        async with HttpPeer(lambda *_: json_answer(200, body)) as peer, AsyncClient(peer.url) as client:
            assert (await client.job(job_id)).job_id == job_id
            [asked] = peer.requests
            place, name = asked.rsplit("/", 1)
            assert (place, unquote(name)) == ("GET /jobs", job_id)
            assert "." not in name

    asyncio.run(scenario())


@pytest.mark.parametrize("picture", [b"picture", "iqdb_0"])
def test_what_may_be_long_goes_into_the_body(picture: bytes | str) -> None:
    """A proxy bounds the length of a URL."""

    async def scenario() -> None:
        answer = json_answer(400, {"message": "seen"})
        async with HttpPeer(lambda *_: answer) as peer, AsyncClient(peer.url) as client:
            for call in (
                client.add(1, picture, source="x" * 2000),
                client.add_later(1, picture, source="x" * 2000),
                client.query(picture, exclude=tuple(range(1000))),
                client.query(1, exclude=tuple(range(1000))),
            ):
                with pytest.raises(Refused, match="seen"):
                    await call
            assert max(map(len, peer.requests)) < 100

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("~/some picture.jpg", "give a file as a Path"),
        ("a.jpg", "Path"),
        (io.BytesIO(), "no BytesIO"),
        (None, "no N"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client, picture: client.add(1, picture),
        lambda client, picture: client.add_later(1, picture),
        lambda client, picture: client.add_many({1: picture}),
        lambda client, picture: client.query(picture),
    ],
)
def test_the_name_of_a_file_as_text_is_not_sent_as_a_hash(
    picture: Any, words: str, call: Callable[[Client, Any], Any]
) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ClientError, match=words):
        call(client, picture)


@pytest.mark.parametrize(
    ("answers", "outcomes"),
    [
        ([[200, 422, 200]], [200, 422, 200]),
        ([[202, 429, 503], [429, 202], [202]], [202, 202, 202]),
        ([[503, 503, 503], [200, 200, 200]], [200, 200, 200]),  # as while the database is locked
        ([[202, 429, 503], [429, 503]], [202, 429, 503]),  # as it is with a picture that takes all memory
        ([[202, 429, 409], 429], [202, 429, 409]),
    ],
)
def test_what_a_busy_server_leaves_out_of_a_batch_is_sent_again(
    answers: list[list[int] | int], outcomes: list[int]
) -> None:
    left = [1, 2, 3]

    async def scenario() -> None:
        async with HttpPeer(_taking(left, answers)) as peer, AsyncClient(peer.url, patience_s=0.3) as client:
            found = await client.add_many(dict.fromkeys(left, "iqdb_0"), sources={1: "one"}, wait=False)
            assert [outcome.post_id for outcome in found] == [1, 2, 3]
            assert [outcome.status for outcome in found] == outcomes
            assert len(answers) == 1

    asyncio.run(scenario())


def test_a_batch_is_sent_again_when_the_server_wants_it() -> None:
    """A server that asks for more patience than there is would only be kept busy."""
    left = [1, 2]

    async def scenario() -> None:
        peer = HttpPeer(_taking(left, [[200, 429], [200]], {"Retry-After": "30"}))
        async with peer, AsyncClient(peer.url, patience_s=20) as client:
            found = await client.add_many(dict.fromkeys(left, "iqdb_0"))
            assert [outcome.status for outcome in found] == [200, 429]
            assert len(peer.requests) == 1

    asyncio.run(scenario())


def _taking(
    left: list[int], answers: list[list[int] | int], headers: dict[str, str] | None = None
) -> Callable[..., Answer]:
    """Return what answers with the next of these: a status, or those of what is left. The last one stays."""

    def behave(*_: str) -> Answer:
        told = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(told, int):
            return json_answer(told, {"message": "full"})
        images = [
            {"post_id": one, "status": status, "message": "full"}
            for one, status in zip(left, told, strict=True)
        ]
        left[:] = [one for one, status in zip(left, told, strict=True) if status in {429, 503}]
        return 202, headers or {}, json.dumps({"images": images}).encode()

    return behave


def test_an_empty_batch_is_not_sent() -> None:
    with Client("http://127.0.0.1:9", patience_s=0) as client:
        assert client.add_many({}) == []


def test_a_client_waits_for_longer_than_the_server() -> None:
    """Else a write that is late seems lost, and is queued once more with every try."""

    async def scenario() -> None:
        async with AsyncClient("http://localhost") as client:
            assert client._http.timeout.read is not None
            assert client._http.timeout.read > Settings().add_timeout_s

    asyncio.run(scenario())
