"""Peers that reset a connection as soon as it is made, of which uvloop's transport raises AttributeError."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest
import uvloop

from api.fetch.failures import FetchFailed
from api.fetch.fetcher import Fetcher, FetchOptions
from api.search.query_node import NodeState, NodeTrouble, QueryNode
from iqdb_client import AsyncClient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

AT_ONCE = 50
RESET = struct.pack("ii", 1, 0)


@contextmanager
def resetting() -> Iterator[str]:
    """Run a peer that resets each connection within half a millisecond; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def reset_all() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Event().wait(random.random() / 2000)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()

    threads = [threading.Thread(target=reset_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join()


async def ask_node(url: str) -> None:
    async with httpx.AsyncClient() as client:

        async def ask() -> None:
            with pytest.raises(NodeTrouble) as trouble:
                await node.request("GET", "/status", limit_s=20)
            assert trouble.value.state is NodeState.AWAY

        node = QueryNode(url, client, lambda: 0)
        await many(ask)
        await node.close()


async def fetch(url: str) -> None:
    fetcher = Fetcher(FetchOptions(max_bytes=100, private=True, timeout_s=20.0), "1")

    async def ask() -> None:
        with pytest.raises(FetchFailed):
            await fetcher.fetch(url)

    await many(ask)


async def ask_server(url: str) -> None:
    async with AsyncClient(url, patience_s=0) as client:

        async def ask() -> None:
            with pytest.raises(Unavailable):
                await client.status()

        await many(ask)


async def many(ask: Callable[[], Awaitable[None]]) -> None:
    async def later() -> None:
        await asyncio.sleep(random.random() / 50)
        await ask()

    for _ in range(4):
        await asyncio.gather(*(later() for _ in range(AT_ONCE)))


@pytest.mark.parametrize("work", [ask_node, fetch, ask_server])
def test_a_connection_that_is_reset_at_once_counts_as_no_answer(
    work: Callable[[str], Awaitable[None]],
) -> None:
    with resetting() as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(work(url), 60))
