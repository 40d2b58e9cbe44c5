"""Search in this process: the index, and the follower that keeps it up to date."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import thread_time
from typing import Any, Final, Protocol, TypeVar

from api.metrics.stages import Observe, Stage, Timed, ignore
from api.search.duplicates import (
    PAGE_IMAGES,
    WALK_S,
    WALKS,
    DuplicatesPage,
    DuplicatesWanted,
    TooManyWalks,
    find_duplicates,
)
from api.search.health import public_values
from api.search.interface import CopiesWanted
from iqdb_core.detached import settle
from iqdb_core.errors import IndexNotReady, StoreError, StoreUnavailable, UnknownImage
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.model import Copies, Match, QuerySignature, Signature

log = logging.getLogger(__name__)

INLINE_IMAGES: Final = 200_000
INLINE_LIMIT: Final = 100
"""Up to this many images and matches, a query runs on the event loop if it need not wait for its turn: with
compiled arithmetic it takes less time than a switch to a thread and back."""
INLINE_S: Final = 0.002
"""Limit of the processor time of a query on the event loop, seconds. After one that took longer, as all do
before arithmetic is compiled, queries run in threads until one is quick again: on the event loop they would
delay all other requests."""
QUERY_THREADS: Final = 8
STORE_THREADS: Final = 2
STORE_S: Final = 1.0
"""How long an answer waits for sources from the store, seconds; less than front ends wait for a node."""

T = TypeVar("T")


class KnownImages(Protocol):
    """The reads of a SignatureStore that search needs. They may raise StoreError."""

    def sources_of(self, image_ids: Sequence[int]) -> dict[int, str]:
        """Return the sources of those images that have one."""

    def ids_after(self, after: int, limit: int) -> Sequence[Listed]:
        """Return live images by ascending id."""


class Listed(Protocol):
    """An image of a list."""

    @property
    def image_id(self) -> int:
        """Its id."""


class LocalSearch:
    """The index of this process, kept up to date by its follower.

    Parameters
    ----------
    index : ImageIndex
    follower : Follower
    store : KnownImages
    observe : callable
        Called with the duration of each scan.
    """

    def __init__(
        self,
        index: ImageIndex,
        follower: Follower,
        *,
        store: KnownImages,
        observe: Observe = ignore,
    ) -> None:
        self._observe = observe
        self._store = store
        self._index = index
        self._follower = follower
        self._threads = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="query")
        # Threads of their own: a hanging database must not delay queries, which do not need it.
        self._readers = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="read")
        # Threads of their own, without a queue: queries come first, and abandoned pages must not pile up.
        self._walkers = ThreadPoolExecutor(WALKS, thread_name_prefix="walk")
        self._free_walks = threading.Semaphore(WALKS)
        self._is_stopping = threading.Event()
        self._took_s = 0.0

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """See `Search`."""
        if self._is_quick(limit):
            return self._query(signature, limit, min_score)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._query, signature, limit, min_score)

    async def sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """See `Search`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._sketch, signature, limit, min_score)

    async def find_copies(self, signatures: Sequence[QuerySignature], wanted: CopiesWanted) -> Copies:
        """See `Search`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._find_copies, signatures, wanted)

    async def duplicates(self, wanted: DuplicatesWanted) -> DuplicatesPage:
        """See `Search`; raises TooManyWalks while `WALKS` others are under way."""
        self._follower.check_whole()
        try:
            listed = await self._read(lambda: self._store.ids_after(wanted.after, PAGE_IMAGES))
        except TimeoutError:
            raise StoreUnavailable(f"the database does not answer within {STORE_S:g} seconds") from None
        return await self._walk(wanted, [image.image_id for image in listed])

    async def sources(self, image_ids: Sequence[int]) -> dict[int, str]:
        """See `Search`."""
        if not image_ids:
            return {}
        try:
            return await self._read(lambda: self._store.sources_of(image_ids))
        except (StoreError, TimeoutError) as error:
            # Answers need no database; without it they only lack sources.
            log.info("answering without sources: %s", error, extra={"action": "no_sources"})
            return {}

    async def get(self, image_id: int) -> Signature:
        """See `Search`."""
        self._follower.check_whole()
        signature = self._index.get(image_id)
        if signature is None:
            raise UnknownImage(image_id)
        return signature

    async def status(self) -> dict[str, Any]:
        """See `Search`."""
        follower, stats = self._follower, self._index.stats()
        return {
            "images": self._index.image_count,
            "applied_seq": follower.applied_seq,
            "head_seq": max(follower.head_seen, follower.applied_seq),
            "lag_seq": follower.lag_seq,
            "follower": follower.state,
            "maintenance": public_values({"state": stats.maintenance, "message": stats.maintenance_error}),
            "checkpoint": public_values(
                {
                    "seq": stats.checkpoint_seq,
                    "age_s": None if stats.checkpoint_age_s is None else round(stats.checkpoint_age_s),
                    "refused": stats.checkpoint_refused,
                }
            ),
            **public_values(
                {
                    "store_error": follower.store_error,
                    "disk_error": follower.sink_error,
                    "restarted": follower.restart_reason,
                }
            ),
        }

    async def wait_applied(self, seq: int, timeout_s: float) -> None:
        """See `Search`; also raises IndexNotReady if the follower has failed or was stopped."""
        if self._follower.applied_seq >= seq:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        withdraw = self._follower.when_applied(seq, partial(settle, done, None))
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            raise IndexNotReady("the change is stored, but the index has not caught up with it yet") from None
        finally:
            withdraw()

    def begin_shutdown(self) -> None:
        """End searches for duplicates, now and from now on: they delay requests. Only sets a flag."""
        self._is_stopping.set()

    def close(self) -> None:
        """Wait for queries in flight and end the threads; of duplicates, only wait for the current search."""
        self.begin_shutdown()
        self._walkers.shutdown(wait=True)
        self._threads.shutdown(wait=True)
        self._readers.shutdown(wait=True)

    def _is_quick(self, limit: int) -> bool:
        """Return whether a query is so quick that it may run on the event loop."""
        index = self._index
        return (
            limit <= INLINE_LIMIT
            and index.image_count <= INLINE_IMAGES
            and self._took_s <= INLINE_S
            and index.has_free_turn
        )

    def _query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        self._follower.check_whole()
        start = thread_time()
        try:
            with Timed(self._observe, Stage.SCAN):
                return self._index.query(signature, limit, min_score)
        finally:
            self._took_s = thread_time() - start

    def _sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        self._follower.check_whole()
        with Timed(self._observe, Stage.SCAN):
            return self._index.query(signature, limit, min_score, is_sketch=True)

    def _find_copies(self, signatures: Sequence[QuerySignature], wanted: CopiesWanted) -> Copies:
        self._follower.check_whole()
        with Timed(self._observe, Stage.SCAN):
            return self._index.find_copies(
                signatures,
                limit=wanted.limit,
                offset=wanted.offset,
                exclude=wanted.exclude,
                min_score=wanted.min_score,
                min_likelihood=wanted.min_likelihood,
                min_detail=wanted.min_detail,
            )

    async def _walk(self, wanted: DuplicatesWanted, ids: Sequence[int]) -> DuplicatesPage:
        if not self._free_walks.acquire(blocking=False):
            raise TooManyWalks
        find = partial(find_duplicates, walk_s=WALK_S, is_stopped=self._is_stopping.is_set)
        page = self._walkers.submit(find, self._index, wanted, ids)
        # When the thread is free, not when the client disconnects.
        page.add_done_callback(lambda _: self._free_walks.release())
        return await asyncio.wrap_future(page)

    async def _read(self, read: Callable[[], T]) -> T:
        """Return what the store answers; raises StoreError, and TimeoutError after `STORE_S` seconds."""
        async with asyncio.timeout(STORE_S):
            return await asyncio.get_running_loop().run_in_executor(self._readers, read)
