"""Chooses the query node for a request: the least busy healthy one, and another one if that is late.

Asking a second node (*hedging*) hides one that is slow or hangs. It is limited: under load every node is
late, and asking twice would double the load. Does not know what requests and answers mean.
Called by `remote`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

import httpx

from api.search.discovery import Discovery, Resolve, resolve
from api.search.query_node import LONGEST_PROBE_PAUSE_S, NodeState, NodeTrouble, QueryNode
from iqdb_core.errors import SearchUnavailable

LIMIT_S: Final = 2.0
"""How long a node may take while another one can be asked, seconds."""
LAST_LIMIT_S: Final = 8.0
"""How long the last node that can be asked may take, seconds."""
LEAST_HEDGE_S: Final = 0.1
LONGEST_HEDGE_S: Final = 1.0
HEDGE_FACTOR: Final = 4.0
"""A node is late after this many times the usual time, but at least and at most the two times above."""
HEDGES_PER_REQUEST: Final = 0.1
MAX_HEDGES: Final = 10.0
_SMOOTHING: Final = 0.05


class NodePool:
    """All query nodes of a front end.

    Parameters
    ----------
    urls : sequence of str
        Base URLs, at least one; see `discovery` for those that stand for several nodes.
    limit_s, last_limit_s : float
        Time limits of one request, while another node can be asked and when none can, seconds.
    longest_probe_pause_s : float
        The longest pause between probes of an unhealthy node, seconds.
    resolver : callable
        Returns the addresses of a name.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        limit_s: float = LIMIT_S,
        last_limit_s: float = LAST_LIMIT_S,
        longest_probe_pause_s: float = LONGEST_PROBE_PAUSE_S,
        resolver: Resolve = resolve,
    ) -> None:
        self.newest_seq = 0
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=min(1.0, limit_s)),  # the whole request has a limit instead
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,  # ignore proxies; certificates of the environment come by `verify`
            verify=httpx.create_ssl_context(),
        )
        self._longest_probe_pause_s = longest_probe_pause_s
        self._discovery = Discovery(urls, resolver)
        self._looking: asyncio.Task[None] | None = None
        self._nodes: dict[str, QueryNode] = {}
        self._set_nodes(self._discovery.urls())
        self._limit_s = limit_s
        self._last_limit_s = last_limit_s
        self._turn = itertools.count()
        self._usual_s = LEAST_HEDGE_S / HEDGE_FACTOR
        self._hedges = MAX_HEDGES
        self._late: set[asyncio.Task[httpx.Response]] = set()

    @property
    def nodes(self) -> list[QueryNode]:
        """All nodes that are known now."""
        return list(self._nodes.values())

    def unhealthy(self) -> list[QueryNode]:
        """Return the nodes that are unhealthy now."""
        return [node for node in self.nodes if node.is_unhealthy]

    async def ask(
        self, method: str, path: str, *, takes_long: bool = False, **request: Any
    ) -> httpx.Response:
        """Return the first good answer of any node; its status is below 500.

        Parameters
        ----------
        method, path : str
        takes_long : bool
            Whether the request may take far longer than the usual milliseconds. Then the node gets the time
            limit of a last node, another one is asked only if it fails, and its time does not count for
            hedging.
        request : of httpx

        Raises
        ------
        SearchUnavailable
            No node answers; the message says why.
        """
        nodes = await self.healthy_nodes()
        answer = await self._first(nodes, method, path, takes_long=takes_long, **request)
        if answer is None:
            # An unhealthy node may have recovered since its last probe.
            others = await self.recovered(nodes)
            answer = await self._first(others, method, path, takes_long=takes_long, **request)
        if answer is None:
            raise SearchUnavailable(self.trouble())
        return answer

    async def healthy_nodes(self) -> list[QueryNode]:
        """Return the healthy nodes in the order to ask them; without any, probe all nodes first."""
        await self._look()
        nodes = self.nodes
        if all(node.is_unhealthy for node in nodes):
            await asyncio.gather(*(node.probe() for node in nodes))
        start = next(self._turn) % max(1, len(nodes))
        in_turn = nodes[start:] + nodes[:start]
        return sorted((node for node in in_turn if not node.is_unhealthy), key=lambda node: node.in_flight)

    async def recovered(self, tried: Sequence[QueryNode]) -> list[QueryNode]:
        """Probe the nodes that were not tried and return the healthy ones."""
        others = [node for node in self.nodes if node not in tried]
        await asyncio.gather(*(node.probe() for node in others))
        return [node for node in others if not node.is_unhealthy]

    def limit_s(self, *, is_last: bool) -> float:
        """Return the time limit of one request, seconds."""
        return self._last_limit_s if is_last else self._limit_s

    def trouble(self) -> str:
        """Say why no node answers."""
        foreign = [node.trouble for node in self.nodes if node.state is NodeState.FOREIGN]
        starting = [node.trouble for node in self.nodes if node.state is NodeState.STARTING]
        return next(iter(foreign + starting), "no query node answers")

    async def close(self) -> None:
        """Cancel what is under way and close the connections."""
        under_way = [*self._late, *([self._looking] if self._looking else [])]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for node in self.nodes:
            await node.close()
        await self._client.aclose()

    async def _first(
        self, nodes: Sequence[QueryNode], method: str, path: str, *, takes_long: bool, **request: Any
    ) -> httpx.Response | None:
        """Return the first good answer of `nodes`, asked one after the other, or None."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        asked: set[asyncio.Task[httpx.Response]] = set()
        left = list(nodes)
        self._hedges = min(MAX_HEDGES, self._hedges + HEDGES_PER_REQUEST)
        try:
            while left or asked:
                if left:
                    node = left.pop(0)
                    limit_s = self.limit_s(is_last=takes_long or not left)
                    asked.add(loop.create_task(node.request(method, path, limit_s=limit_s, **request)))
                done, asked = await asyncio.wait(
                    asked,
                    timeout=self._hedge_after_s() if left and not takes_long else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done and not self._spend_hedge():
                    done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                good = [task for task in done if not isinstance(task.exception(), NodeTrouble)]
                if good:
                    if not takes_long:
                        self._usual_s += _SMOOTHING * (loop.time() - began - self._usual_s)
                    return good[0].result()
            return None
        finally:
            # A late answer is still worth waiting for: it tells whether the node is healthy.
            for task in asked:
                self._late.add(task)
                task.add_done_callback(self._drop_late)

    async def _look(self) -> None:
        """Look names up when that is due; wait for it only while no node is healthy."""
        if self._looking is None and self._discovery.is_due(asyncio.get_running_loop().time()):
            self._looking = asyncio.create_task(self._look_up())
        if self._looking is not None and all(node.is_unhealthy for node in self.nodes):
            await asyncio.shield(self._looking)

    async def _look_up(self) -> None:
        try:
            self._set_nodes(await self._discovery.look(asyncio.get_running_loop().time()))
        finally:
            self._looking = None

    def _set_nodes(self, urls: Sequence[str]) -> None:
        known, self._nodes = self._nodes, {}
        for url in urls:
            node = known.pop(url) if url in known else self._create_node(url)
            self._nodes[url] = node
        for gone in known.values():
            gone.retire()

    def _create_node(self, url: str) -> QueryNode:
        return QueryNode(
            url, self._client, lambda: self.newest_seq, longest_probe_pause_s=self._longest_probe_pause_s
        )

    def _drop_late(self, task: asyncio.Task[httpx.Response]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # the node has noted it; reading it keeps asyncio from logging it as unhandled

    def _spend_hedge(self) -> bool:
        if self._hedges < 1:
            return False
        self._hedges -= 1
        return True

    def _hedge_after_s(self) -> float:
        return min(LONGEST_HEDGE_S, max(LEAST_HEDGE_S, HEDGE_FACTOR * self._usual_s))
