"""Duplicates by the index's own search: also of a picture that is there hundreds of times."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from api.search import duplicates
from api.search.duplicates import (
    MOST_NEAR,
    PAGE_IMAGES,
    PAGE_S,
    WALK_S,
    WALKS,
    DuplicatesWanted,
    TooManyWalks,
    find_duplicates,
    page_body,
    page_of,
)
from api.search.interface import CopiesWanted
from api.search.local import QUERY_THREADS, LocalSearch
from api.web.errors import error_response
from iqdb_core.duplicates import MAX_GROUP, Group
from iqdb_core.errors import IndexNotReady
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.model import QuerySignature, Signature
from iqdb_core.signature import from_image_bytes
from iqdb_core.signature.turns import Turn, turned_signature
from iqdb_core.store import open_store
from iqdb_core.store.columns import to_batch
from tests.fixtures.noise import noise_png
from tests.fixtures.stores import put, signature

if TYPE_CHECKING:
    from iqdb_core.model import Match

NO_BARS = DuplicatesWanted(min_likelihood=0.0, min_detail=0.0, min_score=-1000.0)
"""With these a store is one group."""
FIRST_LOOK = 2
"""What the first look of a walk is known by: its limit."""


@functools.cache
def pictures() -> list[Signature]:
    return [from_image_bytes(noise_png(seed)) for seed in range(200)]


def groups(copies: int, *, after: int = -1, turns: Sequence[Turn] = ()) -> list[Group]:
    """Return what a walk finds among 200 pictures, the first of which is there `copies` more times.

    And turned, for each of `turns`.
    """
    images = pictures() + [pictures()[0]] * copies
    images += [turned_signature(pictures()[0], turn) for turn in turns]
    with ImageIndex.open(None, store_id="duplicates") as index:
        index.apply(
            to_batch(
                [(k + 1, k, *image.averages, image.positions) for k, image in enumerate(images)],
            )
        )
        found: list[Group] = []
        wanted: int | None = after
        while wanted is not None:
            ids = range(wanted + 1, min(len(images), wanted + 1 + PAGE_IMAGES))
            told = find_duplicates(index, DuplicatesWanted(wanted, min_detail=1.0), ids)
            page = page_of(page_body(told))
            found += page.groups
            wanted = page.next_after
        return found


@pytest.mark.parametrize("copies", [1, MOST_NEAR - 1, MOST_NEAR, 3 * MOST_NEAR])
def test_every_copy_is_in_the_group(copies: int) -> None:
    [group] = groups(copies)
    assert group.image_ids == (0, *range(200, 200 + copies))
    assert group.is_whole
    members = {pair.first for pair in group.pairs} | {pair.second for pair in group.pairs}
    assert members == set(group.image_ids)
    assert groups(copies, after=0) == [], "it was told at its smallest id"


def test_turned_copies_are_no_duplicates() -> None:
    (group,) = groups(1, turns=[turn for turn in Turn if turn is not Turn.NONE])
    assert group.image_ids == (0, 200)


def test_an_incomplete_group_is_marked() -> None:
    [group] = groups(MAX_GROUP + 200)
    assert len(group.image_ids) == MAX_GROUP
    assert not group.is_whole


class Watched(ImageIndex):
    """An index that says when a walk begins to look at an image."""

    def query(
        self,
        signature: Signature,
        limit: int = 10,
        min_score: float | None = None,
        *,
        is_sketch: bool = False,
    ) -> list[Match]:
        if limit == FIRST_LOOK:
            self.on_first_look()
        return super().query(signature, limit, min_score, is_sketch=is_sketch)

    def on_first_look(self) -> None:
        raise NotImplementedError


class Slow(Watched):
    """An index of 40 images whose clock goes on by `search_s` with each search of a walk."""

    now = 0.0
    search_s = 0.0
    searches = 0

    def on_first_look(self) -> None:
        self.now += self.search_s
        self.searches += 1


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    with Slow.open(None, store_id="slow") as index:
        assert isinstance(index, Slow)
        index.apply(
            to_batch([(k + 1, k, *one.averages, one.positions) for k, one in enumerate(pictures()[:40])])
        )
        monkeypatch.setattr(duplicates, "time", SimpleNamespace(monotonic=lambda: index.now))
        yield index


def walked(index: Slow, **options: Any) -> tuple[list[Group], list[int]]:
    """Return what a walk without bars tells, and how many searches each page took."""
    found: list[Group] = []
    searches = []
    wanted: int | None = -1
    while wanted is not None:
        before = index.searches
        page = find_duplicates(index, replace(NO_BARS, after=wanted), range(wanted + 1, 40), **options)
        assert page.looked_at >= 1
        assert page.next_after in {None, wanted + page.looked_at}
        searches.append(index.searches - before)
        found += page.groups
        wanted = page.next_after
    return found, searches


def test_a_page_ends_in_time_though_all_the_store_is_one_group(slow: Slow) -> None:
    slow.search_s = 0.09
    groups, searches = walked(slow, walk_s=WALK_S)
    assert max(searches) <= WALK_S / slow.search_s + 1
    assert [group.is_whole for group in groups] == [False] * len(groups)
    assert groups[0].image_ids[0] == 0
    members = [image_id for group in groups for image_id in group.image_ids]
    assert len(members) == len(set(members))


def test_a_group_that_begins_late_has_a_page_of_its_own(slow: Slow) -> None:
    # Before it there are images without copies, which take time, too.
    slow.apply(
        to_batch([(41 + k, 30 + k, *pictures()[0].averages, pictures()[0].positions) for k in range(3)])
    )
    slow.search_s = 0.5 * WALK_S
    found: list[Group] = []
    wanted: int | None = -1
    while wanted is not None:
        asked = DuplicatesWanted(wanted, min_detail=1.0)
        page = find_duplicates(slow, asked, range(wanted + 1, 40), walk_s=WALK_S)
        found += page.groups
        wanted = page.next_after
    assert [(group.image_ids, group.is_whole) for group in found] == [((0, 30, 31, 32), True)]


def test_without_time_a_walk_comes_to_its_end(slow: Slow) -> None:
    slow.search_s = 2 * PAGE_S
    groups, searches = walked(slow, walk_s=0.0)
    assert groups == []
    assert len(searches) == 40


def test_on_a_machine_of_ones_own_groups_have_all_the_time(slow: Slow) -> None:
    slow.search_s = 1.0
    [group], _ = walked(slow)
    assert (group.image_ids, group.is_whole) == (tuple(range(40)), True)


def test_a_stopped_walk_searches_no_more(slow: Slow) -> None:
    with pytest.raises(IndexNotReady):
        find_duplicates(slow, NO_BARS, range(40), is_stopped=lambda: slow.searches >= 3)
    assert slow.searches == 3


class Held(Watched):
    """An index in which the first look of a walk does not end before `go_on` is set."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.looks = 0

    def on_first_look(self) -> None:
        self.looks += 1
        self.began.release()
        assert self.go_on.wait(30)


class Released(LocalSearch):
    """A search whose walks go on when they are told to end."""

    release: threading.Event

    def begin_shutdown(self) -> None:
        super().begin_shutdown()
        self.release.set()


@contextmanager
def held_search(tmp_path: Path) -> Iterator[tuple[LocalSearch, Held]]:
    with (
        closing(open_store(str(tmp_path / "store.sqlite"))) as store,
        Held.open(None, store_id=store.store_id) as index,
    ):
        assert isinstance(index, Held)
        store.apply([put(k, 1 + k) for k in range(5)])
        follower = Follower(store, index, cursor=0, poll_s=60.0)
        follower.catch_up()
        search = Released(index, follower, store=store)
        search.release = index.go_on
        try:
            yield search, index
        finally:
            search.close()


def test_walks_hold_up_no_search_and_are_few_at_a_time(tmp_path: Path) -> None:
    wanted = NO_BARS

    async def ask(search: LocalSearch, index: Held) -> None:
        walks = [asyncio.create_task(search.duplicates(wanted)) for _ in range(QUERY_THREADS + 2)]
        async with asyncio.timeout(30):
            copies = await search.find_copies([QuerySignature(signature(1))], CopiesWanted(1))
            assert [match.image_id for match in copies.matches] == [0]
            assert (await search.sketch(signature(2), 1, None))[0].image_id == 1
            refused, under_way = await asyncio.wait(walks, return_when=asyncio.FIRST_EXCEPTION)
            while len(under_way) > WALKS:
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_EXCEPTION)
        assert all(isinstance(walk.exception(), TooManyWalks) for walk in set(walks) - under_way)
        assert refused
        # Who went away does not make room for another one before the thread has.
        under_way.pop().cancel()
        with pytest.raises(TooManyWalks):
            await search.duplicates(wanted)
        index.go_on.set()
        page = await under_way.pop()
        assert page.looked_at == 5

    with held_search(tmp_path) as (search, index):
        asyncio.run(ask(search, index))


@pytest.mark.parametrize("how", ["begin_shutdown", "close"])
def test_closing_ends_walks_under_way(tmp_path: Path, how: str) -> None:
    async def ask(search: LocalSearch, index: Held) -> None:
        walk = asyncio.create_task(search.duplicates(NO_BARS))
        assert await asyncio.to_thread(index.began.acquire, timeout=30)
        await asyncio.to_thread(getattr(search, how))
        with pytest.raises(IndexNotReady):
            await walk
        assert index.looks == 1

    with held_search(tmp_path) as (search, index):
        asyncio.run(ask(search, index))


def test_too_many_walks_are_answered_429_and_may_be_repeated() -> None:
    refusal = TooManyWalks()
    assert refusal.retryable
    answer = error_response(refusal)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == str(math.ceil(WALK_S))
    assert b"duplicates" in answer.body
