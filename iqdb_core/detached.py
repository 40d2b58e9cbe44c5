"""Awaits work that may hang: in a thread of its own, which delays neither other work nor the process's end.

Not for much work at a time: nothing limits the number of threads. Called for the start of a server, and for
lookups of names; `settle` also by threads of pools.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar, cast

from iqdb_core.process_exit import DetachedThread

T = TypeVar("T")


async def in_detached_thread(work: Callable[[], T], *, name: str) -> T:
    """Return what `work` returns, run in a thread that, unlike an executor's, does not delay the exit.

    If the caller is cancelled, the thread goes on until `work` ends. Raises what `work` raises.
    """
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            settle(done, None, error)
        else:
            settle(done, result, None)

    DetachedThread(run, name=name).start()
    return await done


def settle(done: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    """End a future of an event loop from any thread, with an error if there is one, else with the result."""

    def end() -> None:
        if done.done():  # whoever awaited it was cancelled
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", result))

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        done.get_loop().call_soon_threadsafe(end)
