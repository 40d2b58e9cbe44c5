"""Puts the writes of many requests into the queue together: one script per group.

While one group is on its way to Redis the next one gathers: a single request does not wait for others, and a
busy front end makes few round trips.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from api.ingestion.ledger_threads import LedgerThreads
from iqdb_core.errors import QueueFull, QueueRefused, QueueUnavailable, StoreUnavailable
from iqdb_core.jobs import Accepted, JobLedger, Lane, Submission

log = logging.getLogger(__name__)

GROUP_JOBS: Final = 256
GROUP_BYTES: Final = 32 * 1024 * 1024
"""Size limit of what one script accepts, except for a single larger request: long scripts block Redis."""
_ROOMY: Final = 0.9
_ROOMY_S: Final = 1.0
"""For this many seconds, a queue that was filled to less than `_ROOMY` is taken to have space, unasked."""

_Pending = tuple[Sequence[Submission], "asyncio.Future[list[Accepted]]"]


class JobAcceptor:
    """Accepts submissions and sends their messages.

    Parameters
    ----------
    ledger : JobLedger
    threads : LedgerThreads
        For calls to the ledger.
    send : callable of (int)
        Sends this many messages; blocks for seconds at most. If it fails nothing is lost: the sweep finds
        jobs without a message.
    """

    def __init__(self, ledger: JobLedger, threads: LedgerThreads, send: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._threads = threads
        self._send = send
        self._pending: deque[_Pending] = deque()
        self._task: asyncio.Task[None] | None = None
        self._roomy_until_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accept")

    async def accept(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Accept all of `submissions` or none; on return they are durable.

        Raises
        ------
        QueueFull, QueueUnavailable, StoreUnavailable
            See `JobLedger.accept`.
        """
        future: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._pending.append((submissions, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def check_capacity(self, payload_bytes: int, lane: Lane) -> None:
        """Raise QueueFull if this many more bytes would be refused now; may raise QueueUnavailable.

        Asks Redis only if the queue was nearly full lately, or has not answered lately.
        """
        if time.monotonic() < self._roomy_until_s:
            return
        jobs, held = await self._threads.run(partial(self._ledger.check_capacity, 1, payload_bytes, lane))
        self._note(jobs, held)

    def _note(self, jobs: int, held: int) -> None:
        limits = self._ledger.limits
        is_roomy = jobs < _ROOMY * limits.max_jobs and held < _ROOMY * limits.max_bytes
        self._roomy_until_s = time.monotonic() + _ROOMY_S if is_roomy else 0.0

    def close(self) -> None:
        """Wait for the group that is on its way, and end the thread."""
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            group = self._next_group()
            results = await loop.run_in_executor(self._thread, self._accept_group, [one for one, _ in group])
            if _is_away(results[-1]):  # each of the others would have to wait as long
                group += self._pending
                results += results[-1:] * len(self._pending)
                self._pending.clear()
            for (_, future), result in zip(group, results, strict=True):
                if future.done():  # its client disconnected; what was accepted stays accepted
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next_group(self) -> list[_Pending]:
        group = [self._pending.popleft()]
        jobs, size = _cost(group[0][0])
        while self._pending:
            more_jobs, more_size = _cost(self._pending[0][0])
            if jobs + more_jobs > GROUP_JOBS or size + more_size > GROUP_BYTES:
                break
            jobs, size = jobs + more_jobs, size + more_size
            group.append(self._pending.popleft())
        return group

    def _accept_group(self, group: Sequence[Sequence[Submission]]) -> list[list[Accepted] | Exception]:
        """Accept a group; if it does not fit as a whole, accept its requests one by one."""
        try:
            accepted = self._ledger.accept_all([one for submissions in group for one in submissions])
        except QueueFull as error:
            return [error] if len(group) == 1 else self._accept_apart(group)
        except Exception as error:  # noqa: BLE001 - each of the waiting requests raises it
            return [error] * len(group)
        self._note(accepted.queue_jobs, accepted.queue_bytes)
        if accepted.missing_messages:
            self._send_messages(accepted.missing_messages)
        results: list[list[Accepted] | Exception] = []
        start = 0
        for submissions in group:
            results.append(accepted.jobs[start : start + len(submissions)])
            start += len(submissions)
        return results

    def _accept_apart(self, group: Sequence[Sequence[Submission]]) -> list[list[Accepted] | Exception]:
        results: list[list[Accepted] | Exception] = []
        for submissions in group:
            results += self._accept_group([submissions])
            if _is_away(results[-1]):
                return results + results[-1:] * (len(group) - len(results))
        return results

    def _send_messages(self, count: int) -> None:
        try:
            self._send(count)
        except Exception:
            log.exception(
                "jobs are accepted, but messages to workers were not sent; the sweep will send them",
                extra={"action": "message_unsent"},
            )


def _is_away(result: list[Accepted] | Exception) -> bool:
    """Return whether the queue, or the store that sets its clock, does not answer, which takes seconds."""
    is_refusal = isinstance(result, QueueRefused)  # of one request, perhaps, and at once
    return isinstance(result, (QueueUnavailable, StoreUnavailable)) and not is_refusal


def _cost(submissions: Sequence[Submission]) -> tuple[int, int]:
    return len(submissions), sum(len(one.payload) for one in submissions)
