"""The stages of a request, and a timer that reports how long each took."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from time import perf_counter


class Stage(StrEnum):
    """A part of the work on a request."""

    DECODE = "decode"
    """A picture's bytes to pixels."""
    HASH = "hash"
    """Pixels to a signature."""
    SCAN = "scan"
    """A signature to ranked matches."""
    COMMIT = "commit"
    """Writes to the store, one transaction."""


Observe = Callable[[Stage, float], None]
"""Called with a stage and its duration in seconds; from any thread."""


def ignore(_: Stage, __: float) -> None:
    """Ignore an observation."""


class Timed:
    """For `with`: reports how long the block took, also if it failed.

    Parameters
    ----------
    observe : callable
    stage : Stage
    """

    __slots__ = ("_observe", "_stage", "_start")

    def __init__(self, observe: Observe, stage: Stage) -> None:
        self._observe = observe
        self._stage = stage

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._observe(self._stage, perf_counter() - self._start)
