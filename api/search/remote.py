"""The search seam over HTTP: spreads queries over the query nodes and fails over between them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import httpx

from api.node.protocol import unpack_matches
from iqdb_core import codec
from iqdb_core.errors import IndexNotReady, SearchUnavailable, UnknownImage
from iqdb_core.model import Match, Signature

log = logging.getLogger(__name__)

REST_S: Final = 1.0
"""A node that did not answer is asked last for so long."""
_TIMEOUT: Final = httpx.Timeout(10.0, connect=1.0)


class _Node:
    """One query node, and until when it is left in peace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rests_until = 0.0


class RemoteSearch:
    """Asks query nodes; implements `search.Search`.

    Parameters
    ----------
    urls : sequence of str
        Base URLs, at least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._nodes = [_Node(url) for url in urls]
        self._turn = itertools.count()
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
        )

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """See `Search`."""
        parameters: dict[str, Any] = {"limit": limit}
        if min_score is not None:
            parameters["min_score"] = repr(min_score)
        answer = await self._ask("POST", "/search", params=parameters, content=codec.to_bytes(signature))
        return unpack_matches(answer.content)

    async def get(self, image_id: int) -> Signature:
        """See `Search`."""
        answer = await self._ask("GET", f"/signatures/{image_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise UnknownImage(image_id)
        return codec.from_bytes(answer.content)

    async def status(self) -> dict[str, Any]:
        """See `Search`; the numbers are those of the node that is furthest, `nodes` tells of each."""
        answers = await asyncio.gather(*(self._status_of(node) for node in self._nodes))
        ready = [answer for answer in answers if "images" in answer]
        if not ready:
            return {"message": "no query node answers", "nodes": answers}
        best = max(ready, key=lambda answer: int(answer["applied_seq"]))
        return {name: value for name, value in best.items() if name != "url"} | {"nodes": answers}

    async def wait_applied(self, seq: int, timeout_s: float) -> None:
        """Wait until every node that answers has applied `seq`.

        A node that is away cannot show anything old: it catches up before it answers again.

        Raises
        ------
        IndexNotReady
            A node answers but has not caught up within `timeout_s`.
        SearchUnavailable
            No node answers at all.
        """
        found = await asyncio.gather(*(self._wait_one(node, seq, timeout_s) for node in self._nodes))
        if not any(found):
            raise SearchUnavailable("the change is stored, but no query node answers")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        now = time.monotonic()
        start = next(self._turn) % len(self._nodes)
        in_turn = self._nodes[start:] + self._nodes[:start]
        last = "no query node answers"
        for node in sorted(in_turn, key=lambda node: node.rests_until > now):
            try:
                answer = await self._client.request(method, node.url + path, **request)
            except httpx.HTTPError as error:
                log.info("query node %s: %r", node.url, error, extra={"action": "node_away"})
                node.rests_until = time.monotonic() + REST_S
                continue
            if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                return answer
            node.rests_until = time.monotonic() + REST_S
            last = _message(answer)
        raise SearchUnavailable(last)

    async def _status_of(self, node: _Node) -> dict[str, Any]:
        try:
            answer = await self._client.get(f"{node.url}/status")
        except httpx.HTTPError as error:
            return {"url": node.url, "state": "away", "message": str(error) or type(error).__name__}
        if not answer.is_success:
            return {"url": node.url, "state": "starting", "message": _message(answer)}
        return {"url": node.url, "state": "ready", **answer.json()}

    async def _wait_one(self, node: _Node, seq: int, timeout_s: float) -> bool:
        try:
            answer = await self._client.get(
                f"{node.url}/wait",
                params={"seq": seq, "timeout_s": timeout_s},
                timeout=httpx.Timeout(timeout_s + 5, connect=1.0),
            )
        except httpx.HTTPError as error:
            log.info("query node %s: %r", node.url, error, extra={"action": "node_away"})
            node.rests_until = time.monotonic() + REST_S
            return False
        if not answer.is_success:
            return False
        if not answer.json()["is_applied"]:
            raise IndexNotReady("the change is stored, but the index has not caught up with it yet")
        return True


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"a query node answered {answer.status_code}"
