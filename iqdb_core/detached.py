"""Awaits work that may hang: in a thread of its own, which delays neither other work nor the process's end.

Not for much work at a time: nothing limits the number of threads. Called for the start of a server, and for
lookups of names.
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
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast("T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    DetachedThread(run, name=name).start()
    return await done
