"""Query nodes that hang, load, fall behind or are none: who is asked, who rests, and how a rest ends."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from api.node.protocol import NODE_HEADER, PROTOCOL_VERSION, pack_matches
from api.search import discovery
from api.search.applied import MergedWaits
from api.search.duplicates import DuplicatesWanted
from api.search.interface import CopiesWanted
from api.search.node_pool import NodePool
from api.search.query_node import FIRST_PROBE_PAUSE_S, NodeState
from api.search.remote import RemoteSearch
from iqdb_core.errors import SearchUnavailable, UnknownImage
from iqdb_core.model import Match, QuerySignature
from tests.fixtures.http_peer import Answer, HttpPeer, json_answer
from tests.fixtures.stores import signature
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from collections.abc import Coroutine

SIGNED = {NODE_HEADER: PROTOCOL_VERSION}
SIGNATURE = signature(1)
MATCHES = [Match(7, 99.5, SIGNATURE)]


def well(seq: int = 10) -> Any:
    def behave(_: str, path: str) -> Answer:
        if path.startswith("/search"):
            return 200, SIGNED, pack_matches(MATCHES)
        if path.startswith("/wait"):
            is_applied = int(path.partition("seq=")[2].partition("&")[0]) <= seq
            return json_answer(200, {"is_applied": is_applied, "applied_seq": seq}, **SIGNED)
        if path.startswith("/status"):
            return json_answer(200, {"images": 1, "applied_seq": seq}, **SIGNED)
        return json_answer(404, {"message": "no image has the id 5"}, **SIGNED)

    return behave


def silent(_: str, __: str) -> None:
    return None


def stranger(_: str, __: str) -> Answer:
    return json_answer(404, {"message": "Not Found"})


def starting(_: str, __: str) -> Answer:
    return json_answer(503, {"message": "the server is starting: loaded 5 of 10 changes"}, **SIGNED)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


class Bench:
    """Peers and a search over them, with short limits."""

    def __init__(self, *behaviours: Any, limit_s: float = 0.5, last_limit_s: float = 20.0) -> None:
        self.peers = [HttpPeer(behave) for behave in behaviours]
        self._limits = {"limit_s": limit_s, "last_limit_s": last_limit_s, "longest_probe_pause_s": 0.5}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for peer in self.peers:
            await self._stack.enter_async_context(peer)
        self.search = RemoteSearch([])
        self.search.pool = NodePool([peer.url for peer in self.peers], **self._limits)
        self._stack.push_async_callback(self.search.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def states(self) -> list[str]:
        return [node.state for node in self.search.pool.nodes]

    async def until(self, *states: str) -> None:
        await until(lambda: self.states == list(states))


def test_the_password_of_a_node_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with HttpPeer(well()) as node, HttpPeer(stranger) as other:
            search = RemoteSearch([peer.url.replace("//", "//node:sekret@") for peer in (node, other)])
            assert await search.query(SIGNATURE, 1, None) == MATCHES
            status = await search.status()
            assert {one["url"] for one in status["nodes"]} == {node.url, other.url}
            assert "sekret" not in str(status)
            assert any("authorization: basic" in head.lower() for head in node.heads)
            await search.close()

    run(scenario())
    assert "sekret" not in caplog.text


def test_answers_do_without_sources_that_no_node_tells() -> None:
    async def scenario() -> None:
        async with Bench(starting) as bench:
            assert await bench.search.sources([1, 2]) == {}

    run(scenario())


def test_nodes_are_asked_past_the_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")

    async def scenario() -> None:
        async with Bench(well()) as bench:
            assert await bench.search.query(SIGNATURE, 1, None) == MATCHES

    run(scenario())


def test_a_node_with_an_invalid_name_is_away() -> None:
    async def scenario() -> None:
        search = RemoteSearch(["http://xn--a:1"])
        with pytest.raises(SearchUnavailable, match="no query node answers"):
            await search.query(SIGNATURE, 1, None)
        await search.close()

    run(scenario())


def test_a_silent_node_is_left_out_after_one_time_limit() -> None:
    async def scenario() -> None:
        async with Bench(silent, well()) as bench:
            for _ in range(40):
                assert await bench.search.query(SIGNATURE, 1, None) == MATCHES
            await bench.until(NodeState.AWAY, NodeState.READY)
            searches = [path for path in bench.peers[0].requests if "/search" in path]
            assert len(searches) < 10  # it holds what it was asked, so the others go past it
            await bench.search.wait_applied(10, 30)
            body = await bench.search.status()
            assert [node["state"] for node in body["nodes"]] == ["away", "ready"]
            assert not [path for path in bench.peers[0].requests if "/status" in path]

    run(scenario())


def test_a_wait_leaves_a_silent_node_out() -> None:
    async def scenario() -> None:
        async with Bench(silent, well()) as bench:
            await bench.search.wait_applied(10, 30)
            assert bench.states == [NodeState.AWAY, NodeState.READY]

    run(scenario())


def test_a_silent_node_is_used_again_once_a_probe_finds_it_up_to_date() -> None:
    async def scenario() -> None:
        async with Bench(silent, well(12)) as bench:
            await bench.search.wait_applied(11, 30)
            bench.peers[0].behave = well(10)
            await bench.until(NodeState.BEHIND, NodeState.READY)
            for _ in range(6):
                await bench.search.query(SIGNATURE, 1, None)
            assert not [path for path in bench.peers[0].requests if "/search" in path]
            bench.peers[0].behave = well(11)
            await bench.until(NodeState.READY, NodeState.READY)
            await bench.search.query(SIGNATURE, 1, None)
            await bench.search.query(SIGNATURE, 1, None)
            assert [path for path in bench.peers[0].requests if "/search" in path]

    run(scenario())


def test_the_state_of_an_unhealthy_node_is_what_its_last_probe_found() -> None:
    async def scenario() -> None:
        async with Bench(starting, well()) as bench:
            for _ in range(2):
                await bench.search.query(SIGNATURE, 1, None)
            await bench.until(NodeState.STARTING, NodeState.READY)
            bench.peers[0].behave = stranger
            await bench.until(NodeState.FOREIGN, NodeState.READY)

    run(scenario())


def test_pauses_between_probes_grow() -> None:
    async def scenario() -> None:
        async with Bench(stranger) as bench:
            pool = NodePool([bench.peers[0].url], longest_probe_pause_s=1000)
            node = pool.nodes[0]
            with pytest.raises(SearchUnavailable):
                await pool.ask("GET", "/search")
            loop = asyncio.get_running_loop()
            times: list[float] = []
            probe = node.probe

            async def counted() -> bool:
                times.append(loop.time())
                return await probe()

            node.probe = counted  # type: ignore[method-assign]
            await until(lambda: len(times) >= 2)
            assert times[1] - times[0] > 1.9 * FIRST_PROBE_PAUSE_S  # later than that on a busy machine
            await pool.close()

    run(scenario())


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (stranger, "is not a query node; set IQDB_QUERY_URLS"),
        (lambda *_: json_answer(200, {}, **{NODE_HEADER: "0"}), "of another version"),
        (starting, "loaded 5 of 10 changes"),
        (lambda *_: json_answer(500, {"message": "internal error"}, **SIGNED), "no query node answers"),
    ],
)
def test_the_error_says_what_answers_in_place_of_a_healthy_node(behave: Any, words: str) -> None:
    async def scenario() -> None:
        async with Bench(behave) as bench:
            for _ in range(2):
                with pytest.raises(SearchUnavailable, match=words):
                    await bench.search.query(SIGNATURE, 1, None)
                with pytest.raises(SearchUnavailable, match=words):
                    await bench.search.get(5)
            with pytest.raises(SearchUnavailable, match=words):
                await bench.search.wait_applied(1, 30)
            assert words in (await bench.search.status())["message"]

    run(scenario())


@pytest.mark.parametrize("body", [b"x", b"[]", b"{}", b'{"matches": 1}', b"\xff" * 272])
def test_an_answer_that_is_not_understood_is_not_the_clients_fault(body: bytes) -> None:
    def garbled(_: str, path: str) -> Answer:
        return (424 if path.startswith("/duplicates") and body == b"x" else 200), SIGNED, body

    async def scenario() -> None:
        async with Bench(garbled) as bench:
            search = bench.search
            for call in (
                lambda: search.query(SIGNATURE, 1, None),
                lambda: search.sketch(SIGNATURE, 1, None),
                lambda: search.find_copies([QuerySignature(SIGNATURE)], CopiesWanted(limit=1)),
                lambda: search.duplicates(DuplicatesWanted(-1, 0.5)),
                lambda: search.get(5),
                lambda: search.wait_applied(5, 1),
            ):
                with pytest.raises(SearchUnavailable, match="not understood"):
                    await call()
            if body[:1] not in b"[{":
                with pytest.raises(SearchUnavailable, match="not understood"):
                    await search.sources([5])
                assert "nodes" in await search.status()

    run(scenario())


def test_queries_work_beside_an_address_that_is_no_query_node() -> None:
    async def scenario() -> None:
        async with Bench(stranger, well()) as bench:
            for _ in range(4):
                assert await bench.search.query(SIGNATURE, 1, None) == MATCHES
                with pytest.raises(UnknownImage):
                    await bench.search.get(5)
            assert bench.states == [NodeState.FOREIGN, NodeState.READY]

    run(scenario())


def test_the_only_node_is_asked_again_at_once_when_it_is_back() -> None:
    async def scenario() -> None:
        async with Bench(silent, last_limit_s=0.2) as bench:
            with pytest.raises(SearchUnavailable, match="no query node answers"):
                await bench.search.query(SIGNATURE, 1, None)
            bench.peers[0].behave, bench.search.pool._last_limit_s = well(), 20.0
            assert await bench.search.query(SIGNATURE, 1, None) == MATCHES

    run(scenario())


def test_an_unhealthy_node_is_asked_when_the_others_fail() -> None:
    async def scenario() -> None:
        async with Bench(stranger, well()) as bench:
            await bench.search.query(SIGNATURE, 1, None)
            await bench.search.query(SIGNATURE, 1, None)
            bench.peers[0].behave, bench.peers[1].behave = well(), stranger
            assert await bench.search.query(SIGNATURE, 1, None) == MATCHES

    run(scenario())


def test_hedging_ends_when_everyone_is_late() -> None:
    async def scenario() -> None:
        async with Bench(silent, silent, limit_s=20.0) as bench:
            asked = [asyncio.create_task(bench.search.query(SIGNATURE, 1, None)) for _ in range(60)]
            await until(lambda: sum(len(peer.requests) for peer in bench.peers) >= 60)
            await asyncio.sleep(1.0)  # far longer than a node may be late: more would have come by now
            assert sum(len(peer.requests) for peer in bench.peers) <= 60 + 17
            for task in asked:
                task.cancel()
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}

    run(scenario())


def test_every_address_of_a_name_is_a_node() -> None:
    async def scenario() -> None:
        addresses = ["127.0.0.1"]

        async def resolver(host: str, port: int) -> list[str]:
            assert (host, port) == ("query.internal", peer.port)
            if not addresses:
                raise OSError("no such name")
            return list(addresses)

        async with HttpPeer(well()) as peer, HttpPeer(well(), host="127.0.0.2", port=peer.port) as other:
            pool = NodePool([f"dns+http://query.internal:{peer.port}"], resolver=resolver)
            await pool.ask("GET", "/status")
            assert [node.url for node in pool.nodes] == [peer.url]
            addresses.append("127.0.0.2")
            pool._discovery._looked_s = -1000.0
            await pool.ask("GET", "/status")
            await until(lambda: len(pool.nodes) == 2)
            await asyncio.gather(*(pool.ask("GET", "/status") for _ in range(4)))
            assert other.requests
            first = pool.nodes[0]
            addresses.clear()
            pool._discovery._looked_s = -1000.0
            await pool.ask("GET", "/status")
            await until(lambda: pool._looking is None)
            assert [node.url for node in pool.nodes] == [peer.url, other.url]
            assert pool.nodes[0] is first  # what is known of a node is kept
            await pool.close()

    run(scenario())


def test_requests_that_wait_for_a_removed_node_are_answered_by_another() -> None:
    async def scenario() -> None:
        addresses = ["127.0.0.1"]

        async def resolver(_: str, __: int) -> list[str]:
            return list(addresses)

        async with HttpPeer(silent) as old, HttpPeer(well(), host="127.0.0.2", port=old.port):
            search = RemoteSearch([])
            url = f"dns+http://query.internal:{old.port}"
            search.pool = NodePool([url], limit_s=0.3, last_limit_s=0.3, resolver=resolver)
            with pytest.raises(SearchUnavailable):
                await search.query(SIGNATURE, 1, None)
            applied = MergedWaits(search, 60)
            asked = len(old.requests)
            waiting = [asyncio.create_task(applied.wait(1))]
            await until(lambda: len(old.requests) > asked)  # the probe, which nobody answers
            waiting += [asyncio.create_task(applied.wait(2)), asyncio.create_task(search.wait_applied(3, 60))]
            addresses[:] = ["127.0.0.2"]
            search.pool._discovery._looked_s = -1000.0
            search.pool._last_limit_s = 20.0
            assert await search.query(SIGNATURE, 1, None) == MATCHES
            await asyncio.gather(*waiting)
            await applied.wait(4)
            await search.close()

    run(scenario())


def test_a_removed_node_is_not_probed() -> None:
    async def scenario() -> None:
        async with Bench(silent) as bench:
            pool = bench.search.pool
            (node,) = pool.nodes
            request = asyncio.create_task(node.request("GET", "/status", limit_s=0.3))
            await until(lambda: bench.peers[0].requests)
            pool._set_nodes([])
            with pytest.raises(SearchUnavailable):
                await request
            assert node.is_unhealthy
            assert node._probing is None

    run(scenario())


def test_a_long_request_goes_to_one_node_and_does_not_count_for_hedging() -> None:
    def page(method: str, path: str) -> Answer | None:
        if path.startswith("/duplicates"):
            told = {"groups": [], "looked_at": 0, "next": None}
            return json_answer(200, told, **SIGNED) if is_free.is_set() else None
        return cast("Answer", well()(method, path))

    async def scenario() -> None:
        async with Bench(page, page, limit_s=0.1) as bench:
            pool = bench.search.pool
            usual_s, paths = pool._usual_s, [peer.requests for peer in bench.peers]
            walk = asyncio.create_task(bench.search.duplicates(DuplicatesWanted()))
            # Longer than a second node is asked after, and than the limit of what is quick.
            _, pending = await asyncio.wait({walk}, timeout=0.4)
            assert pending
            assert sum("/duplicates" in path for path in itertools.chain(*paths)) == 1
            assert bench.states == [NodeState.READY] * 2
            walk.cancel()
            is_free.set()
            await bench.search.duplicates(DuplicatesWanted())
            assert pool._usual_s == usual_s

    is_free = asyncio.Event()
    run(scenario())


def test_addresses_of_one_family_are_taken() -> None:
    async def scenario() -> None:
        assert await discovery.resolve("127.0.0.1", 80) == ["127.0.0.1"]
        assert discovery._with_host("http://x:1/a", "::1", 1) == "http://[::1]:1/a"
        assert discovery.Discovery(["http://a", "http://a"]).urls() == ["http://a"]
        search = discovery.Discovery(["dns+http://nowhere.invalid"])
        assert await search.look(0.0) == ["http://nowhere.invalid"]

    run(scenario())
