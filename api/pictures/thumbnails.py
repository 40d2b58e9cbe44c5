"""Thumbnails of files, made on first request and cached in memory.

A bounded number of files is decoded at once, within the limits for images. Called by the routes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Final

from api.pictures.folder import FileVersion, PictureFolder
from iqdb_core.errors import ImageError
from iqdb_core.signature import DecodeLimits
from iqdb_core.signature.thumbnail import thumbnail

SIDE: Final = 400
"""Longest side, pixels."""
CACHE_BYTES: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 2


class Thumbnails:
    """Thumbnails of the files below a folder.

    Parameters
    ----------
    folder : PictureFolder
    limits : DecodeLimits
        Limits of decoding.
    max_bytes : int
        Largest file, bytes.
    cache_bytes : int
        Size limit of the cache, bytes.
    """

    def __init__(
        self,
        folder: PictureFolder,
        *,
        limits: DecodeLimits,
        max_bytes: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._max_bytes = max_bytes
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[FileVersion, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def find(self, source: str) -> FileVersion | None:
        """Return the file that a source names, if it exists and may be shown."""
        found = await asyncio.to_thread(self._folder.find, source)
        return found if found is not None and found.size <= self._max_bytes else None

    async def thumbnail(self, file: FileVersion) -> bytes | None:
        """Return a file as a small JPEG; None if it is not a readable picture, or has changed."""
        kept = self._kept_of(file)
        if kept is not None:
            return kept
        async with self._turns:
            made = self._kept_of(file)  # another request may have made it in the meantime
            if made is None:
                made = await asyncio.to_thread(self._make, file)
                if made is not None:
                    self._keep(file, made)
            return made

    def _kept_of(self, file: FileVersion) -> bytes | None:
        kept = self._kept.get(file)
        if kept is not None:
            self._kept.move_to_end(file)
        return kept

    def _make(self, file: FileVersion) -> bytes | None:
        data = self._folder.read(file)
        if data is None:
            return None
        try:
            return thumbnail(data, SIDE, limits=self._limits)
        except ImageError:
            return None

    def _keep(self, file: FileVersion, made: bytes) -> None:
        if file in self._kept:
            return
        self._kept[file] = made
        self._kept_bytes += len(made)
        while self._kept_bytes > self._cache_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)


def tag_of(file: FileVersion) -> str:
    """Return an ETag for this version of a file that does not reveal its path."""
    return hashlib.blake2b(repr(file).encode(), digest_size=12).hexdigest()
