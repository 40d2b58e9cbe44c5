"""Reads the store for the routes, in threads, so that no long read delays other requests.

The embedded server passes its store in. A front end of the distributed server needs the database for nothing
else, and opens it for the first such request. Called by `api.web.subjects.contents`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from api.contents.cursor import Cursor
from iqdb_core import codec
from iqdb_core.errors import IqdbError, StoreUnavailable
from iqdb_core.model import ChangeBatch, Signature
from iqdb_core.store import ExportedImage, ListedImage, SignatureStore

THREADS: Final = 4
MAX_EXPORTS: Final = 2
"""Exports at once: each holds a snapshot of the store and a connection."""
CHUNK_IMAGES: Final = 512
READ_S: Final = 20.0
"""Time limit of reads, seconds: less than a stopping server gives requests in flight, so that a hanging
database does not delay its end."""
LOOK_S: Final = 0.5
"""Interval of looking for changes for a waiting mirror, seconds."""

T = TypeVar("T")


class TooManyExports(IqdbError):
    """The limit of exports that run at once is reached."""

    retryable = True


class ContentsReader:
    """Reads everything that is stored.

    Parameters
    ----------
    open_store : callable
        Returns the store; called in a thread when it is first needed, and again if that failed.
    close_store : callable
        Called by `close` with the store that was opened.
    read_s : float
        Time limit of reads other than exports, seconds.
    """

    def __init__(
        self,
        open_store: Callable[[], SignatureStore],
        close_store: Callable[[SignatureStore], None] = lambda _: None,
        *,
        read_s: float = READ_S,
    ) -> None:
        self._read_s = read_s
        self._open_store = open_store
        self._close_store = close_store
        self._store: SignatureStore | None = None
        self._lock = threading.Lock()
        self._is_closing = False
        self._exports = 0
        self._open_exports: set[_Export] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="contents")

    async def ids_after(self, after: int, limit: int) -> list[ListedImage]:
        """Return the next images above an id. Like all methods, raises StoreUnavailable."""
        return await self._read(lambda store: store.ids_after(after, limit))

    async def missing(self, image_ids: Sequence[int]) -> list[int]:
        """Return those of the ids that have no image."""
        return await self._read(lambda store: store.missing(image_ids))

    async def source_of(self, image_id: int) -> str | None:
        """Return the source of an image, None if it is not known."""
        sources = await self._read(lambda store: store.sources_of([image_id]))
        return sources.get(image_id)

    async def changes(self, cursor: Cursor, limit: int, wait_s: float) -> tuple[ChangeBatch, dict[int, str]]:
        """Return the changes after a cursor and the sources of their images; wait for the first change.

        Parameters
        ----------
        cursor : Cursor
        limit : int
            Most changes.
        wait_s : float
            How long to wait for a change, seconds; without one the batch is empty.

        Raises
        ------
        OtherHistory
            The cursor is from another history of the store.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + wait_s
        while True:
            batch, sources = await self._read(lambda store: _changes(store, cursor, limit))
            if len(batch) or clock() >= end or self._is_closing:
                return batch, sources
            await asyncio.sleep(min(LOOK_S, max(0.0, end - clock())))

    async def export_lines(self) -> AsyncGenerator[bytes]:
        """Yield every image as a line of JSON, in chunks of some hundreds, all from one moment."""
        self._begin_export()
        try:
            export = await self._run(lambda store: _Export(store.export()))
            self._open_exports.add(export)
            try:
                while chunk := await self._run(lambda _: export.next()):
                    yield chunk
            finally:
                # Not awaited: when the client disconnects, anything awaited here is cancelled with the
                # answer.
                if not self._is_closing:  # otherwise `close` ends it: then there may be no thread any more
                    self._threads.submit(self._end_export, export)
        finally:
            self._exports -= 1

    async def export_file(self, path: Path) -> None:
        """Write all images of one moment to an SQLite file, as IQDB writes it."""
        self._begin_export()
        try:
            await self._run(lambda store: store.export_iqdb_file(path))
        finally:
            self._exports -= 1

    def stop_waiting(self) -> None:
        """End all waiting for changes at once."""
        self._is_closing = True

    def close(self) -> None:
        """Wait for reads in flight, and close the store if it was opened here."""
        self.stop_waiting()
        for export in list(self._open_exports):
            self._end_export(export)
        self._threads.shutdown(wait=True)
        if self._store is not None:
            self._close_store(self._store)

    def _end_export(self, export: _Export) -> None:
        export.close()
        self._open_exports.discard(export)

    def _begin_export(self) -> None:
        if self._exports >= MAX_EXPORTS:
            raise TooManyExports(f"{MAX_EXPORTS} exports are under way; ask again later")
        self._exports += 1

    async def _read(self, read: Callable[[SignatureStore], T]) -> T:
        """Run a short read; raise StoreUnavailable if it takes longer than `read_s` seconds."""
        try:
            async with asyncio.timeout(self._read_s):
                return await self._run(read)
        except TimeoutError:
            raise StoreUnavailable(f"the database does not answer within {self._read_s:g} seconds") from None

    async def _run(self, read: Callable[[SignatureStore], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: read(self._opened()))

    def _opened(self) -> SignatureStore:
        with self._lock:
            if self._store is None:
                self._store = self._open_store()
            return self._store


def line_of(image_id: int, signature: Signature, source: str | None) -> dict[str, Any]:
    """Return one image as exports and the feed write it."""
    line = {"post_id": image_id, "hash": codec.to_hash(signature)}
    return line if source is None else {**line, "source": source}


def _changes(store: SignatureStore, cursor: Cursor, limit: int) -> tuple[ChangeBatch, dict[int, str]]:
    batch = store.changes_since(cursor.seq, limit)
    if batch.feed is not None:
        cursor.check(batch.feed)
    live = batch.image_ids[batch.is_live].tolist()
    return batch, store.sources_of(live) if live else {}


def _chunks(images: Iterator[ExportedImage]) -> Generator[bytes]:
    while lines := [orjson.dumps(line_of(*image)) for image in islice(images, CHUNK_IMAGES)]:
        yield b"\n".join(lines) + b"\n"


class _Export:
    """An export under way. Closing it waits for the chunk that is being read.

    Parameters
    ----------
    images : iterator of ExportedImage
        Occupies a connection of the store until it is closed.
    """

    def __init__(self, images: Iterator[ExportedImage]) -> None:
        self._images = images
        self._chunks = _chunks(images)
        self._lock = threading.Lock()
        self._is_closed = False

    def next(self) -> bytes:
        """Return the next chunk; empty at the end. Raises StoreUnavailable if it was closed before that."""
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the server is stopping")
            return next(self._chunks, b"")

    def close(self) -> None:
        """End it, and free its connection. Closing twice is harmless."""
        with self._lock:
            self._is_closed = True
            self._chunks.close()
            if isinstance(self._images, Generator):
                self._images.close()
