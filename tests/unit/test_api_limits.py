"""Limits of a request, driven as an ASGI server would drive them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from api.ingestion.picture import BodyTooLarge
from api.web.errors import BodyTimeout, TooBusy
from api.web.guards import limits
from api.web.guards.limits import IDS_MAX_BYTES, WORDS_MAX_BYTES, LimitOptions, RequestLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send


def scope(path: str = "/images/1", method: str = "POST", **headers: str) -> Scope:
    if "content_length" not in headers:
        headers["transfer_encoding"] = "chunked"
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


def sender(*chunks: bytes) -> Receive:
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


async def swallow(_: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def limited(app: Callable[..., Any] = swallow, **changes: Any) -> RequestLimits:
    limits: dict[str, Any] = {
        "max_bytes": 100,
        "max_batch_bytes": 1000,
        "max_pending": 2,
        "max_pending_bytes": 150,
        "idle_s": 5,
        "total_s": 60,
        "bytes_per_s": 1,
    }
    return RequestLimits(app, LimitOptions(**(limits | changes)))


def run(app: RequestLimits, scope_: Scope, receive: Receive) -> int:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_, receive, send))
    return int(sent[0]["status"])


def test_a_body_within_the_limit_passes() -> None:
    assert run(limited(), scope(content_length="100"), sender(b"x" * 60, b"x" * 40)) == 200


def test_an_announced_body_over_the_limit_is_refused_before_the_app_runs() -> None:
    assert run(limited(), scope(content_length="101"), sender(b"x" * 101)) == 413
    assert run(limited(), scope(content_length="x"), sender(b"")) == 400
    assert run(limited(), scope(content_length="9" * 5000), sender(b"")) == 400


def test_a_body_that_grows_over_the_limit_is_refused_on_the_way() -> None:
    with pytest.raises(BodyTooLarge):
        run(limited(), scope(), sender(b"x" * 60, b"x" * 41))


def test_batches_have_a_limit_of_their_own() -> None:
    for path in ("/images", "/images/", "/query/batch"):
        assert run(limited(), scope(path, content_length="140"), sender(b"x" * 140)) == 200
    assert run(limited(), scope("/query", content_length="140"), sender(b"x" * 140)) == 413
    assert run(limited(max_bytes=10**9), scope(content_type="application/json"), sender(b"{}")) == 200
    size = str(WORDS_MAX_BYTES + 1)
    app = limited(max_bytes=10**9)
    assert run(app, scope(content_type="application/json", content_length=size), sender(b"{}")) == 413


def test_bodies_under_way_share_a_budget() -> None:
    with pytest.raises(TooBusy):
        run(limited(), scope("/images"), sender(b"x" * 151))


def test_a_client_that_stops_sending_is_dropped() -> None:
    async def stalled() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(BodyTimeout):
        run(limited(idle_s=0.01), scope(), stalled)


def test_too_many_requests_at_once_are_answered_429() -> None:
    statuses: list[int] = []

    async def scenario() -> None:
        gate = asyncio.Event()

        async def waiting(scope_: Scope, receive: Receive, send: Send) -> None:
            await gate.wait()
            await swallow(scope_, receive, send)

        app = limited(waiting)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        running = [asyncio.create_task(app(scope(), sender(b""), send)) for _ in range(2)]
        await asyncio.wait(running, timeout=0.01)
        await app(scope(), sender(b""), send)
        assert statuses == [429]
        gate.set()
        await asyncio.gather(*running)
        await app(scope(), sender(b""), send)

    asyncio.run(scenario())
    assert statuses == [429, 200, 200, 200]


def test_every_method_is_metered() -> None:
    app = limited(max_bytes=10**9, max_pending_bytes=10**9)
    for method, path, limit in (
        ("GET", "/query", WORDS_MAX_BYTES),
        ("HEAD", "/", WORDS_MAX_BYTES),
        ("PUT", "/images/1", WORDS_MAX_BYTES),
        ("DELETE", "/images", IDS_MAX_BYTES),
        ("DELETE", "/images/1", IDS_MAX_BYTES),
    ):
        assert run(app, scope(path, method, content_length=str(limit + 1)), sender(b"x")) == 413
        with pytest.raises(BodyTooLarge):
            run(app, scope(path, method), sender(b"x" * limit, b"x"))


def test_a_request_without_a_body_passes_untouched() -> None:
    app = limited(max_pending=1, max_bytes=1)
    assert run(app, scope(method="GET", content_length="0"), sender(b"")) == 200


def test_a_body_has_a_total_time_and_a_least_rate() -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    for changes, words in (
        ({"total_s": 0.05}, "did not end within 0.05 seconds"),
        ({"idle_s": 0.05, "bytes_per_s": 10**9}, "less than 1e.09 bytes per second"),
    ):
        with pytest.raises(BodyTimeout, match=words):
            run(limited(max_bytes=10**9, max_pending_bytes=10**9, **changes), scope(), trickle)


class Crowd:
    """Requests whose bodies never end, and the statuses of those that are answered."""

    def __init__(self, app: RequestLimits) -> None:
        self.app = app
        self.statuses: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])

    async def stalled(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def enter(self, path: str, count: int) -> None:
        self.tasks += [
            asyncio.create_task(self.app(scope(path), self.stalled, self.send)) for _ in range(count)
        ]
        await asyncio.sleep(0)

    async def ask(self, path: str) -> int:
        await self.app(scope(path), sender(b"x"), self.send)
        return self.statuses[-1]

    def leave(self) -> None:
        for task in self.tasks:
            task.cancel()


def test_slow_writers_leave_room_for_readers() -> None:
    async def scenario() -> None:
        crowd = Crowd(limited())
        await crowd.enter("/images/1", 2)
        assert await crowd.ask("/query") == 200
        assert await crowd.ask("/images/2") == 429
        crowd.leave()

    asyncio.run(scenario())


def test_a_slow_sender_gives_way_to_a_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "YOUNG_S", 1e-6)

    async def scenario() -> None:
        crowd = Crowd(limited())
        await crowd.enter("/query", 2)
        for _ in range(2):
            assert await crowd.ask("/query") == 200
        done, left = await asyncio.wait(crowd.tasks, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(left)) == (1, 1)
        assert isinstance(done.pop().exception(), BodyTimeout)
        crowd.leave()

    asyncio.run(scenario())


def test_a_sender_whose_time_is_just_over_gives_way_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are due in one turn of the loop: the limit of the slow one, and the newcomer."""
    monkeypatch.setattr(limits, "YOUNG_S", 1e-6)

    async def scenario() -> None:
        crowd = Crowd(limited(max_pending=1, idle_s=0.2))
        await crowd.enter("/query", 1)
        (slow,) = crowd.app._reads._inside
        loop = asyncio.get_running_loop()
        assert slow._waiting is not None
        due = slow._waiting.when()
        assert due is not None
        newcomer: list[asyncio.Task[int]] = []
        loop.call_at(due - 0.001, lambda: newcomer.append(loop.create_task(crowd.ask("/query"))))

        def be_busy() -> None:
            while loop.time() < due + 0.01:
                pass

        loop.call_at(due - 0.01, be_busy)
        await asyncio.wait(crowd.tasks, timeout=60)
        assert await newcomer[0] == 200
        assert isinstance(crowd.tasks[0].exception(), BodyTimeout)

    asyncio.run(scenario())
