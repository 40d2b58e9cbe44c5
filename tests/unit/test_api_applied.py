"""Waiting together for changes: one who fails, fails alone, and the next ones ask anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from api.search.applied import MergedWaits
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from api.search.interface import Search


class FailingOnce:
    """A search whose first wait ends as told, whenever it is told to."""

    def __init__(self, error: BaseException) -> None:
        self.asked: list[int] = []
        self.go_on = asyncio.Event()
        self._error = error

    async def wait_applied(self, seq: int, _: float) -> None:
        self.asked.append(seq)
        if len(self.asked) == 1:
            await self.go_on.wait()
            raise self._error


@pytest.mark.parametrize("error", [RuntimeError("a fault"), asyncio.CancelledError()], ids=type)
def test_a_wait_after_a_failed_one_asks_again(error: BaseException) -> None:
    async def scenario() -> None:
        search = FailingOnce(error)
        together = MergedWaits(cast("Search", search), 60)
        first = asyncio.create_task(together.wait(1))
        await until(lambda: search.asked)
        others = [asyncio.create_task(together.wait(seq)) for seq in (3, 2)]
        await asyncio.sleep(0)
        search.go_on.set()
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], type(error))
        async with asyncio.timeout(60):
            await asyncio.gather(*others)
            await together.wait(4)
        assert search.asked == [1, 3, 4]

    asyncio.run(scenario())
