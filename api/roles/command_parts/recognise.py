"""Finds the images that are there and come from files of which the notebook knows nothing.

The notebook may be lost, or the images may have been added another way: into a database first, through its
server later. An image is recognised by its source and by what it shows, so that two machines with a file of
the same name do not take each other's image. Called by `places`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from api.roles.command_parts.gather import Item
from api.roles.command_parts.target import Target

_CANDIDATES: Final = 4
"""Images with the same source that are looked at."""


class Recognition:
    """The ids of all images by their sources, read in one pass when they are first needed.

    Takes 16 bytes per image that has a source. Used from one thread.

    Parameters
    ----------
    target : Target
    pool : ThreadPoolExecutor
        Reads and decodes the files that may be there.
    """

    def __init__(self, target: Target, pool: ThreadPoolExecutor) -> None:
        self._target = target
        self._pool = pool
        self._listing: _Listing | None = None
        self._taken: set[int] = set()

    def largest_id(self) -> int:
        """Return the largest id there was when all were read; -1 for none."""
        return self._read().largest

    def ids_of(self, items: Sequence[Item]) -> dict[str, int]:
        """Return the ids, by key, of those items that are there, each id once."""
        listing = self._read()
        pairs = [
            (item, image_id)
            for item in items
            if item.source is not None
            for image_id in listing.ids_of(item.source)
            if image_id not in self._taken
        ]
        found: dict[str, int] = {}
        same = self._pool.map(lambda pair: self._target.is_same(pair[1], pair[0].picture), pairs)
        for (item, image_id), is_same in zip(pairs, same, strict=True):
            if is_same and item.key not in found and image_id not in self._taken:
                found[item.key] = image_id
                self._taken.add(image_id)
        return found

    def _read(self) -> _Listing:
        if self._listing is None:
            self._listing = _Listing(self._target.listed)
        return self._listing


class _Listing:
    """Ids by the hashes of their sources."""

    def __init__(self, listed: Callable[[], Iterator[tuple[int, str | None]]]) -> None:
        hashes, ids = array("q"), array("q")
        self.largest = -1
        for image_id, source in listed():
            self.largest = image_id
            if source is not None:
                hashes.append(hash(source))
                ids.append(image_id)
        order = np.argsort(np.frombuffer(hashes, np.int64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.int64)[order]
        self._ids = np.frombuffer(ids, np.int64)[order]

    def ids_of(self, source: str) -> list[int]:
        """Return the smallest ids of images with a source, at most `_CANDIDATES`."""
        first = int(np.searchsorted(self._hashes, hash(source)))
        last = int(np.searchsorted(self._hashes, hash(source), side="right"))
        return [int(image_id) for image_id in self._ids[first : min(last, first + _CANDIDATES)]]
