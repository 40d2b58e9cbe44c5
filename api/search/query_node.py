"""One query node as a front end sees it: requests have a time limit, and an unhealthy node gets none.

A node that does not answer as it should is *unhealthy*: no request is sent to it. Only a probe ends that,
never the clock alone. The probe asks whether the node has the newest change that was reported to any client
as findable, so that a node without it never gives an outdated answer. Called by `node_pool`, and by `remote`
where each node is asked by itself.
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

FIRST_PROBE_PAUSE_S: Final = 0.5
LONGEST_PROBE_PAUSE_S: Final = 30.0
PROBE_S: Final = 1.0
"""How long a probe may take, seconds; a healthy node answers it in a millisecond."""


class NodeState(StrEnum):
    """The state of a query node, as `GET /status` shows it."""

    READY = "ready"
    STARTING = "starting"
    """It answers, and says that it is loading."""
    BEHIND = "behind"
    """It answers, but has not applied changes that other nodes have."""
    AWAY = "away"
    """It does not answer, or not in time."""
    FAILING = "failing"
    """It answers with an error of its own."""
    FOREIGN = "foreign"
    """Something else answers at its address."""


class NodeTrouble(SearchUnavailable):
    """One node did not answer as it should; another may.

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
        Returns the seq of the newest change that was reported to a client as findable; probes ask for it.
    longest_probe_pause_s : float
        Pauses between probes double up to this, seconds.
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        newest_seq: Callable[[], int],
        *,
        longest_probe_pause_s: float = LONGEST_PROBE_PAUSE_S,
    ) -> None:
        self.url = without_user(url)
        """Without user and password: as shown in the status, the log and the metrics."""
        self._base = url
        self.in_flight = 0
        self.state = NodeState.READY
        self.trouble = ""
        self._client = client
        self._newest_seq = newest_seq
        self._longest_probe_pause_s = longest_probe_pause_s
        self._probing: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[bool] | None = None
        self._is_retired = False

    @property
    def is_unhealthy(self) -> bool:
        """Whether it gets no requests, only probes."""
        return self.state is not NodeState.READY

    async def request(self, method: str, path: str, *, limit_s: float, **request: Any) -> httpx.Response:
        """Ask the node; a failure makes it unhealthy.

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
            self._mark_unhealthy(trouble)
            raise

    async def probe(self) -> bool:
        """Return whether the node is healthy and up to date, after asking it; callers share one probe."""
        if self._probe is None:
            self._probe = asyncio.create_task(self._ask_health())
        probe = self._probe
        await asyncio.wait({probe})  # unlike awaiting the task: `retire` cancels the task, not its waiters
        return not probe.cancelled() and probe.result()

    def mark_behind(self) -> None:
        """Mark the node unhealthy: it lacks a change that another node has."""
        self._mark_unhealthy(NodeTrouble(NodeState.BEHIND, "it has not caught up yet"))

    def retire(self) -> list[asyncio.Task[Any]]:
        """Cancel all probing for good; return the cancelled tasks."""
        self._is_retired = True
        tasks: list[asyncio.Task[Any]] = [task for task in (self._probing, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def close(self) -> None:
        """Cancel all probing and wait for its end."""
        await asyncio.gather(*self.retire(), return_exceptions=True)

    async def _ask(self, method: str, path: str, limit_s: float, **request: Any) -> httpx.Response:
        self.in_flight += 1
        try:
            async with asyncio.timeout(
                limit_s
            ):  # for the whole request: the client's own limits are per read
                answer = await self._client.request(method, self._base + path, **request)
        except TimeoutError:
            raise NodeTrouble(NodeState.AWAY, f"no answer within {limit_s:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise NodeTrouble(NodeState.AWAY, str(error) or type(error).__name__) from error
        except AttributeError as error:  # of uvloop's transport, for a connection that is reset at once
            raise NodeTrouble(NodeState.AWAY, "it closed the connection") from error
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

    def _mark_unhealthy(self, trouble: NodeTrouble) -> None:
        if trouble.state is not self.state:
            log.warning(
                "query node %s is %s: %s",
                self.url,
                trouble.state,
                trouble,
                extra={"action": "node_unhealthy"},
            )
        self.state, self.trouble = trouble.state, str(trouble)
        if self._probing is None and not self._is_retired:
            self._probing = asyncio.create_task(self._probe_until_healthy())

    async def _probe_until_healthy(self) -> None:
        pause_s = FIRST_PROBE_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            if await self.probe():
                return
            # A node that loads or catches up will be healthy soon, and asking it costs nothing.
            is_alive = self.state in {NodeState.STARTING, NodeState.BEHIND}
            pause_s = FIRST_PROBE_PAUSE_S if is_alive else min(2 * pause_s, self._longest_probe_pause_s)

    async def _ask_health(self) -> bool:
        try:
            answer = await self._ask(
                "GET", "/wait", PROBE_S, params={"seq": self._newest_seq(), "timeout_s": PROBE_S / 4}
            )
            is_behind = _is_behind(answer.json(), self._newest_seq())
        except NodeTrouble as trouble:
            self._mark_unhealthy(trouble)
        except (ValueError, KeyError, TypeError):
            self._mark_unhealthy(NodeTrouble(NodeState.FAILING, "its answer is not understood"))
        else:
            if is_behind:
                self.mark_behind()
            else:
                self._mark_healthy()
        finally:
            self._probe = None
        return not self.is_unhealthy

    def _mark_healthy(self) -> None:
        if self.is_unhealthy:
            log.warning("query node %s answers again", self.url, extra={"action": "node_back"})
        self.state, self.trouble = NodeState.READY, ""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None


def _is_behind(body: dict[str, Any], newest_seq: int) -> bool:
    """Return whether a node lacks a change that clients know of, unless the store has lost it too."""
    return int(body["applied_seq"]) < min(newest_seq, int(body.get("head_seq", newest_seq)))


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"a query node answered {answer.status_code}"
