"""How a server answers from its own index: never from a part of it, and never at the cost of others."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from api.search.duplicates import DuplicatesWanted
from api.search.interface import CopiesWanted
from api.search.local import INLINE_S, LocalSearch
from iqdb_core.errors import IndexNotReady
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.store import open_store
from tests.fixtures.stores import put, signature
from tests.fixtures.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api.metrics.stages import Stage
    from iqdb_core.model import ChangeBatch


class HalfWay(ImageIndex):
    """An index that is asked between two batches."""

    asked: LocalSearch | None = None
    refusals = 0

    def apply(self, batch: ChangeBatch) -> None:
        super().apply(batch)
        if self.asked is not None and self.applied_seq < 4:
            for question in (
                self.asked.query(signature(1), 10, None),
                self.asked.sketch(signature(1), 10, None),
                self.asked.find_copies([], CopiesWanted(10)),
                self.asked.duplicates(DuplicatesWanted(-1, 0.5, 0.0, 0.0)),
                self.asked.get(1),
            ):
                with pytest.raises(IndexNotReady, match="put back to another state"):
                    asyncio.run(question)
                self.refusals += 1


def test_nothing_is_answered_from_a_part_of_the_index(tmp_path: Path) -> None:
    with (
        closing(open_store(str(tmp_path / "store.sqlite"))) as store,
        HalfWay.open(None, store_id=store.store_id) as index,
    ):
        assert isinstance(index, HalfWay)
        store.apply([put(k, 1) for k in range(5)])
        # It holds more than the store ever had: the store was put back.
        follower = Follower(store, index, cursor=9, poll_s=60.0, batch=2)
        search = LocalSearch(index, follower, store=store)
        index.asked = search
        follower.catch_up()
        assert index.refusals >= 5
        index.asked = None
        assert len(asyncio.run(search.query(signature(1), 10, None))) == 5
        assert asyncio.run(search.get(1)) == signature(1)
        search.close()


class Searched(NamedTuple):
    """A search over a few images, its index, in which threads it scanned, and what follows the store."""

    search: LocalSearch
    index: ImageIndex
    threads: list[str]
    follower: Follower


@contextmanager
def searched(tmp_path: Path) -> Iterator[Searched]:
    threads: list[str] = []

    def note(_: Stage, __: float) -> None:
        threads.append(threading.current_thread().name)

    with (
        closing(open_store(str(tmp_path / "store.sqlite"))) as store,
        ImageIndex.open(None, store_id=store.store_id) as index,
    ):
        store.apply([put(k, 1) for k in range(5)])
        follower = Follower(store, index, cursor=0, poll_s=60.0)
        follower.catch_up()
        search = LocalSearch(index, follower, store=store, observe=note)
        yield Searched(search, index, threads, follower)
        search.close()


def test_a_waiting_query_does_not_block_the_event_loop(tmp_path: Path) -> None:
    async def scenario(search: LocalSearch, index: ImageIndex, threads: list[str], _: Follower) -> None:
        held = [index._threads.turn(0) for _ in range(index._threads._turns)]
        for turn in held:
            turn.__enter__()
        asked = asyncio.create_task(search.query(signature(1), 10, None))
        await until(lambda: index._threads._waiting)
        assert not asked.done()
        for turn in held:
            turn.__exit__()
        assert await asked
        search._took_s = 0.0
        assert await search.query(signature(1), 10, None) == asked.result()
        assert [name == threading.current_thread().name for name in threads] == [False, True]

    with searched(tmp_path) as made:
        asyncio.run(scenario(*made))


def test_slow_queries_are_answered_aside_until_they_are_quick_again(tmp_path: Path) -> None:
    async def scenario(search: LocalSearch, _: ImageIndex, threads: list[str], __: Follower) -> None:
        search._took_s = 10 * INLINE_S  # as while arithmetic is not compiled
        await search.query(signature(1), 10, None)
        assert search._took_s < 10 * INLINE_S
        search._took_s = 0.0
        await search.query(signature(1), 10, None)
        assert [name == threading.current_thread().name for name in threads] == [False, True]

    with searched(tmp_path) as made:
        asyncio.run(scenario(*made))


def test_waiting_too_long_for_a_change_raises(tmp_path: Path) -> None:
    with searched(tmp_path) as made, pytest.raises(IndexNotReady, match="not caught up"):
        asyncio.run(made.search.wait_applied(10, 0.01))


def test_waiting_for_a_change_raises_when_the_server_stops(tmp_path: Path) -> None:
    async def scenario(search: LocalSearch, follower: Follower) -> None:
        waiting = asyncio.create_task(search.wait_applied(10, 30.0))
        await asyncio.sleep(0)  # it has begun to wait
        await asyncio.to_thread(follower.stop)
        with pytest.raises(IndexNotReady, match="stopping"):
            await asyncio.wait_for(waiting, 10)

    with searched(tmp_path) as made:
        asyncio.run(scenario(made.search, made.follower))
