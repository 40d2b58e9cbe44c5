"""One query node as a front end sees it: asked with a time limit, and left in peace while it is ill.

A node that did not answer as it should *rests*: nobody waits for it. The rest ends by a probe, never by the
clock alone, and a probe asks for the newest change that anyone was told is findable, so that a node that
slept through it answers nothing old. Called by `node_pool`, and by `remote` for what concerns each node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import httpx

from api.node.protocol import NODE_HEADER, PROTOCOL_VERSION
from iqdb_core.errors import SearchUnavailable
from iqdb_core.web_address import without_user

log = logging.getLogger(__name__)

FIRST_REST_S: Final = 0.5
LONGEST_REST_S: Final = 30.0
PROBE_S: Final = 1.0
"""How long a probe may take; a node that is well answers it in a millisecond."""


class NodeState(StrEnum):
    """How a query node is, as `GET /status` says it."""

    READY = "ready"
    STARTING = "starting"
    """It answers, and says that it is loading."""
    BEHIND = "behind"
    """It answers, and has yet to apply what others have."""
    AWAY = "away"
    """It does not answer, or not in time."""
    FAILING = "failing"
    """It answers with an error of its own."""
    FOREIGN = "foreign"
    """Something else answers at its address."""


class NodeTrouble(SearchUnavailable):
    """One node did not answer as a node should; another may.

    Parameters
    ----------
    state : NodeState
    reason : str
        In words.
    """

    def __init__(self, state: NodeState, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class QueryNode:
    """One query node: its address, its state, and the requests to it.

    Parameters
    ----------
    url : str
        Base URL, without a trailing slash.
    client : httpx.AsyncClient
    newest_seq : callable
        The newest change that a client was told is findable; what a probe asks for.
    longest_rest_s : float
        Where doubling ends, seconds.
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        newest_seq: Callable[[], int],
        *,
        longest_rest_s: float = LONGEST_REST_S,
    ) -> None:
        self.url = without_user(url)
        """As it is shown, in the status, the log and the metrics."""
        self._base = url
        self.in_flight = 0
        self.state = NodeState.READY
        self.trouble = ""
        self._client = client
        self._newest_seq = newest_seq
        self._longest_rest_s = longest_rest_s
        self._rest: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[bool] | None = None
        self._is_forgotten = False

    @property
    def is_resting(self) -> bool:
        """Whether it is left in peace."""
        return self.state is not NodeState.READY

    async def request(self, method: str, path: str, *, limit_s: float, **request: Any) -> httpx.Response:
        """Ask the node; after trouble it rests.

        Parameters
        ----------
        limit_s : float
            How long the whole answer may take, seconds.

        Raises
        ------
        NodeTrouble
            No answer in time, an error of the node, or no query node at all.
        """
        try:
            return await self._ask(method, path, limit_s, **request)
        except NodeTrouble as trouble:
            self._lie_down(trouble)
            raise

    async def probe(self) -> bool:
        """Ask whether the node is well and up to date, which ends its rest; callers share one probe."""
        if self._probe is None:
            self._probe = asyncio.create_task(self._ask_health())
        probe = self._probe
        await asyncio.wait({probe})  # not of the task itself: `forget` cancels it, and not those who wait
        return not probe.cancelled() and probe.result()

    def fall_behind(self) -> None:
        """Let the node rest: it lacks a change that another node has."""
        self._lie_down(NodeTrouble(NodeState.BEHIND, "it has not caught up yet"))

    def forget(self) -> list[asyncio.Task[Any]]:
        """End the rest and the probe that are under way, and begin none again; return their tasks."""
        self._is_forgotten = True
        tasks: list[asyncio.Task[Any]] = [task for task in (self._rest, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def close(self) -> None:
        """End what is under way and wait for its end."""
        await asyncio.gather(*self.forget(), return_exceptions=True)

    async def _ask(self, method: str, path: str, limit_s: float, **request: Any) -> httpx.Response:
        self.in_flight += 1
        try:
            async with asyncio.timeout(limit_s):  # of the whole: the client's own limits are per read
                answer = await self._client.request(method, self._base + path, **request)
        except TimeoutError:
            raise NodeTrouble(NodeState.AWAY, f"no answer within {limit_s:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise NodeTrouble(NodeState.AWAY, str(error) or type(error).__name__) from error
        finally:
            self.in_flight -= 1
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        version = answer.headers.get(NODE_HEADER)
        if version is None:
            reason = f"{self.url} is not a query node; set IQDB_QUERY_URLS to addresses of query nodes"
            raise NodeTrouble(NodeState.FOREIGN, reason)
        if version != PROTOCOL_VERSION:
            reason = f"the query node {self.url} is of another version than this front end"
            raise NodeTrouble(NodeState.FOREIGN, reason)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise NodeTrouble(NodeState.STARTING, _message(answer))
        if answer.is_server_error:
            raise NodeTrouble(NodeState.FAILING, _message(answer))

    def _lie_down(self, trouble: NodeTrouble) -> None:
        if trouble.state is not self.state:
            log.warning(
                "query node %s is %s: %s", self.url, trouble.state, trouble, extra={"action": "node_rests"}
            )
        self.state, self.trouble = trouble.state, str(trouble)
        if self._rest is None and not self._is_forgotten:
            self._rest = asyncio.create_task(self._rest_until_well())

    async def _rest_until_well(self) -> None:
        pause_s = FIRST_REST_S
        while True:
            await asyncio.sleep(pause_s)
            if await self.probe():
                return
            # A node that loads or catches up is well soon, and asking it costs nothing.
            is_alive = self.state in {NodeState.STARTING, NodeState.BEHIND}
            pause_s = FIRST_REST_S if is_alive else min(2 * pause_s, self._longest_rest_s)

    async def _ask_health(self) -> bool:
        try:
            answer = await self._ask(
                "GET", "/wait", PROBE_S, params={"seq": self._newest_seq(), "timeout_s": PROBE_S / 4}
            )
            is_behind = _is_behind(answer.json(), self._newest_seq())
        except NodeTrouble as trouble:
            self._lie_down(trouble)
        except (ValueError, KeyError, TypeError):
            self._lie_down(NodeTrouble(NodeState.FAILING, "its answer is not understood"))
        else:
            if is_behind:
                self.fall_behind()
            else:
                self._get_up()
        finally:
            self._probe = None
        return not self.is_resting

    def _get_up(self) -> None:
        if self.is_resting:
            log.warning("query node %s answers again", self.url, extra={"action": "node_back"})
        self.state, self.trouble = NodeState.READY, ""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


def _is_behind(body: dict[str, Any], newest_seq: int) -> bool:
    """Tell whether a node lacks what was promised; what its store has lost no node can have."""
    return int(body["applied_seq"]) < min(newest_seq, int(body.get("head_seq", newest_seq)))


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"a query node answered {answer.status_code}"
