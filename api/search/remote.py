"""The search seam over HTTP: sends requests to query nodes and interprets their answers."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import httpx
import orjson

from api.node.copies import pack_search, size_parameters, unpack_copies
from api.node.protocol import unpack_matches
from api.search.duplicates import DuplicatesPage, DuplicatesWanted, TooManyWalks, page_of
from api.search.interface import CopiesWanted
from api.search.node_pool import NodePool
from api.search.query_node import NodeState, NodeTrouble, QueryNode
from iqdb_core import codec
from iqdb_core.errors import (
    IndexNotReady,
    InvalidHash,
    SearchUnavailable,
    StoreError,
    StoreUnavailable,
    UnknownImage,
)
from iqdb_core.model import Copies, Match, QuerySignature, Signature

log = logging.getLogger(__name__)

WAIT_SLICE_S: Final = 1.0
"""A wait is split into requests of this length, so that a node that hangs meanwhile is noticed."""
WAIT_PAUSE_S: Final = 0.05
BEHIND_S: Final = 0.9
"""A node that lacks a change this long after another one had it is left out; less than a slice."""


class RemoteSearch:
    """Asks query nodes; implements `search.Search`.

    Parameters
    ----------
    urls : sequence of str
        Base URLs, at least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.pool = NodePool(urls)

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """See `Search`."""
        return await self._matches("/search", signature, limit, min_score)

    async def sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """See `Search`."""
        return await self._matches("/sketch", signature, limit, min_score)

    async def _matches(
        self, path: str, signature: Signature, limit: int, min_score: float | None
    ) -> list[Match]:
        parameters: dict[str, Any] = {"limit": limit}
        if min_score is not None:
            parameters["min_score"] = repr(min_score)
        answer = await self.pool.ask("POST", path, params=parameters, content=codec.to_bytes(signature))
        with _understood():
            return unpack_matches(_content(answer))

    async def find_copies(self, signatures: Sequence[QuerySignature], wanted: CopiesWanted) -> Copies:
        """See `Search`."""
        least = {name: getattr(wanted, name) for name in ("min_score", "min_likelihood", "min_detail")}
        parameters: dict[str, Any] = {"limit": wanted.limit, "offset": wanted.offset}
        parameters |= size_parameters(signatures)
        parameters |= {name: repr(value) for name, value in least.items() if value is not None}
        body = pack_search(signatures, wanted.exclude)
        answer = await self.pool.ask("POST", "/copies", params=parameters, content=body)
        with _understood():
            return unpack_copies(_content(answer))

    async def duplicates(self, wanted: DuplicatesWanted) -> DuplicatesPage:
        """See `Search`."""
        parameters: dict[str, Any] = {
            name: repr(getattr(wanted, name)) for name in ("min_likelihood", "min_detail", "min_score")
        }
        if wanted.after >= 0:
            parameters["after"] = wanted.after
        answer = await self.pool.ask("GET", "/duplicates", takes_long=True, params=parameters)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TooManyWalks
        if answer.status_code == httpx.codes.FAILED_DEPENDENCY:
            with _understood():
                body = answer.json()
                kind, message = (StoreUnavailable if body["retryable"] else StoreError), str(body["message"])
            raise kind(message)
        with _understood():
            return page_of(orjson.loads(_content(answer)))

    async def sources(self, image_ids: Sequence[int]) -> dict[int, str]:
        """See `Search`."""
        if not image_ids:
            return {}
        try:
            answer = await self.pool.ask("POST", "/sources", content=orjson.dumps(list(image_ids)))
        except SearchUnavailable as error:
            log.info("answering without sources: %s", error, extra={"action": "no_sources"})
            return {}
        with _understood():
            return dict(orjson.loads(_content(answer)))

    async def get(self, image_id: int) -> Signature:
        """See `Search`."""
        answer = await self.pool.ask("GET", f"/signatures/{image_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise UnknownImage(image_id)
        with _understood():
            return codec.from_bytes(_content(answer))

    async def status(self) -> dict[str, Any]:
        """See `Search`; the numbers are those of the most advanced node, `nodes` has each node's state."""
        await self.pool.healthy_nodes()
        answers = await asyncio.gather(*(self._status_of(node) for node in self.pool.nodes))
        ready = [answer for answer in answers if "images" in answer]
        if not ready:
            return {"message": self.pool.trouble(), "nodes": answers}
        best = max(ready, key=lambda answer: int(answer["applied_seq"]))
        own = {
            name: value for name, value in best.items() if name not in {"url", "state", "version", "uptime_s"}
        }
        return own | {"nodes": answers}

    async def wait_applied(self, seq: int, timeout_s: float) -> None:
        """Wait until every node that answers has applied `seq`.

        Unhealthy nodes are not waited for: they have to catch up before they are asked again. A node that
        lacks the change `BEHIND_S` after another one had it becomes unhealthy.

        Raises
        ------
        IndexNotReady
            A node answers but has not caught up within `timeout_s`.
        SearchUnavailable
            No node answers at all.
        """
        self.pool.newest_seq = max(self.pool.newest_seq, seq)
        nodes = await self.pool.healthy_nodes()
        wait = _Wait(seq, asyncio.get_running_loop().time() + timeout_s, self.pool.unhealthy())
        if await self._wait_all(nodes, wait):
            return
        if not await self._wait_all(await self.pool.recovered(nodes), wait):
            raise SearchUnavailable(f"the change is stored, but {self.pool.trouble()}")

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()

    async def _status_of(self, node: QueryNode) -> dict[str, Any]:
        answer = None
        if not node.is_unhealthy:
            try:
                answer = await node.request("GET", "/status", limit_s=self.pool.limit_s(is_last=False))
            except NodeTrouble as trouble:
                return {"url": node.url, "state": trouble.state, "message": str(trouble)}
        if answer is None or not answer.is_success:
            return {"url": node.url, "state": node.state, "message": node.trouble}
        try:
            with _understood():
                return {"url": node.url, **answer.json(), "state": NodeState.READY}
        except SearchUnavailable as error:
            return {"url": node.url, "state": NodeState.FAILING, "message": str(error)}

    async def _wait_all(self, nodes: Sequence[QueryNode], wait: _Wait) -> bool:
        """Wait for all of `nodes`; return whether any has the change. Raises IndexNotReady."""
        is_last = len(nodes) == 1
        results = await asyncio.gather(*(self._wait_one(node, wait, is_last=is_last) for node in nodes))
        if _Waited.LATE in results:
            raise IndexNotReady("the change is stored, but the index has not caught up with it yet")
        return _Waited.APPLIED in results

    async def _wait_one(self, node: QueryNode, wait: _Wait, *, is_last: bool) -> _Waited:
        clock = asyncio.get_running_loop().time
        while True:
            slice_s = max(0.0, min(WAIT_SLICE_S, wait.end - clock()))
            try:
                answer = await node.request(
                    "GET",
                    "/wait",
                    params={"seq": wait.seq, "timeout_s": slice_s},
                    limit_s=slice_s + self.pool.limit_s(is_last=is_last),
                )
            except NodeTrouble:
                return _Waited.UNHEALTHY
            with _understood():
                is_applied = answer.is_success and answer.json()["is_applied"]
            if is_applied:
                wait.note_applied(clock())
                return _Waited.APPLIED
            if wait.can_skip_node(clock()):
                node.mark_behind()
                return _Waited.UNHEALTHY
            if clock() >= wait.end:
                return _Waited.LATE
            await asyncio.sleep(WAIT_PAUSE_S)  # a node that is stopping does not wait for its slice to end


class _Waited(Enum):
    """How waiting for one node ended."""

    APPLIED = "applied"
    LATE = "late"
    UNHEALTHY = "unhealthy"


class _Wait:
    """One wait for a change, on several nodes.

    Parameters
    ----------
    seq : int
    end : float
        When to give up, by the loop's clock.
    unhealthy : sequence of QueryNode
        Nodes that are not asked; each has the change once it is healthy again.
    """

    def __init__(self, seq: int, end: float, unhealthy: Sequence[QueryNode]) -> None:
        self.seq = seq
        self.end = end
        self._unhealthy = unhealthy
        self._applied_since: float | None = None

    def note_applied(self, now: float) -> None:
        """Note that a node has the change."""
        if self._applied_since is None:
            self._applied_since = now

    def can_skip_node(self, now: float) -> bool:
        """Return whether another node has had the change for so long that a node without it is left out."""
        if any(not node.is_unhealthy for node in self._unhealthy):
            self.note_applied(now)
        return self._applied_since is not None and now >= self._applied_since + BEHIND_S


@contextmanager
def _understood() -> Iterator[None]:
    """Raise SearchUnavailable for a malformed answer of a node: it is not the client's fault."""
    try:
        yield
    except (InvalidHash, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        log.warning(
            "the answer of a query node is not understood: %r", error, extra={"action": "node_misunderstood"}
        )
        raise SearchUnavailable("the answer of a query node is not understood") from error


def _content(answer: httpx.Response) -> bytes:
    if not answer.is_success:
        raise SearchUnavailable(f"a query node refused the request with {answer.status_code}")
    return answer.content
