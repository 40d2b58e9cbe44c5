"""Computes signatures of pictures off the event loop, a bounded number at a time.

Uploads wait on disk or in their spool until a decoder is free, and are read into memory only then. So memory
is bounded by decoders x (upload limit + decoded size), whatever arrives. Called by the ingestion and the
query routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.datastructures import UploadFile

from api.ingestion.picture import Channels, Picture, upload_bytes
from api.metrics.stages import Observe, Stage, ignore
from iqdb_core.detached import settle
from iqdb_core.errors import IqdbError
from iqdb_core.model import QuerySignature, Signature
from iqdb_core.signature import DecodeLimits, ReadImage, ReadQuery, read_query, read_timed, turned

T = TypeVar("T")
Gone = Callable[[], Awaitable[None]]
"""Returns once the client of a picture has disconnected."""


class Abandoned(IqdbError):
    """The client has disconnected, so the picture was not decoded."""


class Hasher:
    """Computes signatures in `decoders` threads.

    Parameters
    ----------
    decoders : int
        Images decoded at once, at least 1.
    limits : DecodeLimits
        Limits for each picture.
    max_upload_bytes : int
        Largest file, bytes.
    observe : callable
        Called with the time that each picture took to decode and to hash.
    """

    def __init__(
        self, *, decoders: int, limits: DecodeLimits, max_upload_bytes: int, observe: Observe = ignore
    ) -> None:
        self._on_decoded = partial(observe, Stage.DECODE)
        self._on_hashed = partial(observe, Stage.HASH)
        self._limits = limits
        self._max_upload_bytes = max_upload_bytes
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    async def signature(self, picture: Picture) -> Signature:
        """Return the picture's signature; raises ImageError, InvalidChannels or BodyTooLarge."""
        return (await self.read(picture)).signature

    async def read(self, picture: Picture, *, gone: Gone | None = None) -> ReadImage:
        """Return the picture's signature, and whether a file is damaged; raises as `signature`.

        With `gone` it also raises Abandoned: a picture that still waits for a decoder is then not decoded.
        """
        if isinstance(picture, Signature):
            return ReadImage(picture, is_damaged=False)
        return await self._in_thread(lambda: self._read(picture), gone)

    async def read_and(self, picture: Picture, then: Callable[[ReadImage], Future[T]]) -> tuple[ReadImage, T]:
        """Read the picture, and start the next step in the decoder's thread.

        The event loop is woken only once, when both are done.

        Parameters
        ----------
        picture : Picture
        then : callable of (ReadImage)
            Starts the next step, which ends in another thread; must not wait for it.

        Returns
        -------
        ReadImage
        T
            The result of the next step. Raises as `read`, and any error of the next step.
        """
        done: asyncio.Future[tuple[ReadImage, T]] = asyncio.get_running_loop().create_future()

        def end(read: ReadImage, future: Future[T]) -> None:
            error = future.exception()
            settle(done, (read, future.result()) if error is None else None, error)

        def work() -> None:
            try:
                read = self._read(picture)
                then(read).add_done_callback(partial(end, read))
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                settle(done, None, error)

        if isinstance(picture, Signature):
            work()
            return await done
        task = self._threads.submit(work)
        try:
            return await done
        finally:
            task.cancel()

    async def read_query(
        self, picture: Picture, *, turns: str | None, has_parts: bool, gone: Gone | None = None
    ) -> ReadQuery:
        """Return the signatures that a search for copies of a picture needs; raises as `read`.

        Parameters
        ----------
        picture : Picture
        turns : str or None
            See `iqdb_core.signature.turned`.
        has_parts : bool
            Whether to include those of parts of the picture, which only a file has.
        gone : callable or None
            See `read`.
        """
        if not has_parts or isinstance(picture, Signature | Channels):
            whole = await self.read(picture, gone=gone)
            return ReadQuery(turned([QuerySignature(whole.signature)], turns), whole.is_damaged)
        return await self._in_thread(lambda: self._read_query(picture, turns), gone)

    async def _in_thread(self, work: Callable[[], T], gone: Gone | None) -> T:
        task = self._threads.submit(work)
        done = asyncio.wrap_future(task)
        if gone is None:
            return await done
        watch = asyncio.ensure_future(gone())
        ends: set[asyncio.Future[Any]] = {done, watch}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_gone = not watch.cancel()
            has_begun = not task.cancel()
        if is_gone:
            if has_begun:  # the thread is reading the file, which is closed once this returns
                await asyncio.gather(done, return_exceptions=True)
            raise Abandoned("the client has disconnected")
        return await done

    def _read_query(self, picture: UploadFile, turns: str | None) -> ReadQuery:
        data = upload_bytes(picture, self._max_upload_bytes)
        return read_query(data, turns=turns, limits=self._limits)

    def _read(self, picture: Picture) -> ReadImage:
        if isinstance(picture, Signature):
            return ReadImage(picture, is_damaged=False)
        if isinstance(picture, Channels):
            return ReadImage(picture.signature(), is_damaged=False)
        return read_timed(
            upload_bytes(picture, self._max_upload_bytes),
            limits=self._limits,
            on_decoded=self._on_decoded,
            on_hashed=self._on_hashed,
        )

    def close(self) -> None:
        """Wait for pictures in flight, and end the threads."""
        self._threads.shutdown(wait=True)
