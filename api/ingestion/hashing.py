"""Pictures to signatures without ever holding up the event loop, a bounded number at a time.

Uploads wait on disk or in their spool until a decoder is free: only then are their bytes read into memory, so
memory is bounded by decoders x (upload limit + decoded size), whatever arrives. Called by the ingestion and
the query routes.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

from api.ingestion.picture import Channels, Picture, read_upload
from api.metrics.stages import Observe, Stage, ignore
from iqdb_core.model import Asked, Signature
from iqdb_core.signature import DecodeLimits, ReadImage, asked_from_image_bytes, read_image, turned


class Hasher:
    """Computes signatures in `decoders` threads.

    Parameters
    ----------
    decoders : int
        Images decoded at once, at least 1.
    limits : DecodeLimits
        What an image may cost.
    max_upload_bytes : int
        Largest file, bytes.
    observe : callable
        Told how long each picture took to decode and to hash.
    """

    def __init__(
        self, *, decoders: int, limits: DecodeLimits, max_upload_bytes: int, observe: Observe = ignore
    ) -> None:
        self._observe = observe
        self._limits = limits
        self._max_upload_bytes = max_upload_bytes
        self._slots = asyncio.Semaphore(decoders)
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    async def signature(self, picture: Picture) -> Signature:
        """Return the picture's signature; raises ImageError, InvalidChannels or BodyTooLarge."""
        return (await self.read(picture)).signature

    async def read(self, picture: Picture) -> ReadImage:
        """Return the picture's signature, and whether a file is damaged; raises as `signature`."""
        if isinstance(picture, Signature):
            return ReadImage(picture, is_damaged=False)
        loop = asyncio.get_running_loop()
        async with self._slots:
            if isinstance(picture, Channels):
                signature = await loop.run_in_executor(self._threads, picture.signature)
                return ReadImage(signature, is_damaged=False)
            data = await read_upload(picture, self._max_upload_bytes)
            return await loop.run_in_executor(self._threads, self._hash, data)

    async def asked(self, picture: Picture, *, turns: str | None, has_parts: bool) -> list[Asked]:
        """Return the signatures that a search for copies of a picture looks for; raises as `signature`.

        Parameters
        ----------
        picture : Picture
        turns : str or None
            See `iqdb_core.signature.turned`.
        has_parts : bool
            Those of parts of the picture, too; only a file has any.
        """
        if not has_parts or isinstance(picture, Signature | Channels):
            whole = await self.signature(picture)
            return turned([Asked(whole)], turns)
        loop = asyncio.get_running_loop()
        async with self._slots:
            data = await read_upload(picture, self._max_upload_bytes)
            search = partial(asked_from_image_bytes, data, turns=turns, limits=self._limits)
            return await loop.run_in_executor(self._threads, search)

    def _hash(self, data: bytes) -> ReadImage:
        hashing_s = 0.0

        def on_hashed(seconds: float) -> None:
            nonlocal hashing_s
            hashing_s = seconds
            self._observe(Stage.HASH, seconds)

        start = perf_counter()
        try:
            return read_image(data, limits=self._limits, on_hashed=on_hashed)
        finally:
            self._observe(Stage.DECODE, perf_counter() - start - hashing_s)

    def close(self) -> None:
        """Wait for the images in flight and end the threads."""
        self._threads.shutdown(wait=True)
