"""Watches what a worker process works with, and tells how long each stage took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from iqdb_core.model import Write, WriteOutcome
from iqdb_core.signature import DecodeLimits, ReadImage, read_image
from worker.handlers import Store

Observe = Callable[[str, float], None]


class WatchedStore:
    """A store whose commits are timed."""

    def __init__(self, store: Store, observe: Observe) -> None:
        self._store = store
        self._observe = observe

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        """Commit `writes` in one transaction."""
        start = perf_counter()
        try:
            return self._store.apply(writes)
        finally:
            self._observe("commit", perf_counter() - start)


def watched_read(data: bytes, limits: DecodeLimits, observe: Observe) -> ReadImage:
    """Read an image as `read_image` does; what is not hashing is decoding."""
    hashing_s = 0.0

    def on_hashed(seconds: float) -> None:
        nonlocal hashing_s
        hashing_s = seconds
        observe("hash", seconds)

    start = perf_counter()
    try:
        return read_image(data, limits=limits, on_hashed=on_hashed)
    finally:
        observe("decode", perf_counter() - start - hashing_s)
