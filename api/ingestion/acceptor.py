"""From requests to the queue, many at a time: one script accepts, one message carries a chunk.

While one group is on its way to Redis the next one gathers, so a lone request waits for nobody and a busy
front end makes few round trips; chunks let a worker commit many images in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from iqdb_core.errors import QueueFull
from iqdb_core.jobs import Accepted, JobLedger, Submission
from iqdb_core.jobs.messages import CHUNK_JOBS

log = logging.getLogger(__name__)

GROUP_JOBS: Final = 256
GROUP_BYTES: Final = 32 * 1024 * 1024

_Pending = tuple[Sequence[Submission], "asyncio.Future[list[Accepted]]"]


class JobAcceptor:
    """Accepts submissions and sends their messages.

    Parameters
    ----------
    ledger : JobLedger
    send : callable of (list of job ids)
        Puts one message on the queue; blocking. Its failure loses nothing: the sweep finds jobs without one.
    """

    def __init__(self, ledger: JobLedger, send: Callable[[list[str]], None]) -> None:
        self._ledger = ledger
        self._send = send
        self._pending: deque[_Pending] = deque()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accept")

    async def accept(self, submissions: Sequence[Submission]) -> list[Accepted]:
        """Accept all of `submissions` or none; on return they are not lost any more.

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

    def close(self) -> None:
        """Wait for what is on its way and end the thread."""
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            group = self._next_group()
            results = await loop.run_in_executor(self._thread, self._accept_group, [one for one, _ in group])
            for (_, future), result in zip(group, results, strict=True):
                if future.done():  # its client went away; what was accepted stays accepted
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
        """Accept a group; where it does not fit whole, each of its requests for itself."""
        try:
            accepted = self._ledger.accept([one for submissions in group for one in submissions])
        except QueueFull as error:
            if len(group) == 1:
                return [error]
            return [self._accept_group([submissions])[0] for submissions in group]
        except Exception as error:  # noqa: BLE001 - each of the waiting requests raises it
            return [error] * len(group)
        for start in range(0, len(accepted), CHUNK_JOBS):
            self._send_chunk([one.job_id for one in accepted[start : start + CHUNK_JOBS]])
        results: list[list[Accepted] | Exception] = []
        start = 0
        for submissions in group:
            results.append(accepted[start : start + len(submissions)])
            start += len(submissions)
        return results

    def _send_chunk(self, job_ids: list[str]) -> None:
        try:
            self._send(job_ids)
        except Exception:
            log.exception("%d jobs are accepted but not sent; the sweep will", len(job_ids))


def _cost(submissions: Sequence[Submission]) -> tuple[int, int]:
    return len(submissions), sum(len(one.payload) for one in submissions)
