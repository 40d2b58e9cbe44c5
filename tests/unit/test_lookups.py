"""Lookups of names that hang."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from api.fetch import addresses
from api.search import discovery
from tests.fixtures.waiting import until

MANY = 40
"""More than an event loop of any kind has threads for lookups."""


@pytest.mark.parametrize("resolve", [addresses.resolve, discovery.resolve])
def test_lookups_that_hang_delay_nothing_else(
    monkeypatch: pytest.MonkeyPatch, resolve: Callable[[str, int], Awaitable[list[str]]]
) -> None:
    look_up, hang, hanging = socket.getaddrinfo, threading.Event(), []

    def look_up_or_hang(host: str, *arguments: object, **options: object) -> object:
        if host == "hangs":
            hanging.append(host)
            hang.wait(60)
        return look_up("127.0.0.1", *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up_or_hang)
    found: list[str] = []

    async def ask() -> None:
        lookups = [asyncio.ensure_future(resolve("hangs", 80)) for _ in range(MANY)]
        await until(lambda: len(hanging) == MANY)
        found.extend(await resolve("answers", 80))
        await asyncio.to_thread(found.append, "another thread")
        for one in lookups:
            one.cancel()

    # The loop must also end while they hang.
    loop = threading.Thread(target=lambda: asyncio.run(ask()), daemon=True)
    loop.start()

    loop.join(30)
    has_ended = not loop.is_alive()
    hang.set()
    assert has_ended
    assert found == ["127.0.0.1", "another thread"]
