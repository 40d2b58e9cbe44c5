"""The stages that requests spend their time on, and who is told how long each took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from time import perf_counter


class Stage(StrEnum):
    """What the time of a request goes into."""

    DECODE = "decode"
    """A picture's bytes to pixels."""
    HASH = "hash"
    """Pixels to a signature."""
    SCAN = "scan"
    """A signature to ranked matches."""
    COMMIT = "commit"
    """Writes to the store, one transaction."""


Observe = Callable[[Stage, float], None]
"""Told of one run of a stage and the seconds it took; from any thread."""


def ignore(_: Stage, __: float) -> None:
    """Observe nothing."""


@contextmanager
def timed(observe: Observe, stage: Stage) -> Iterator[None]:
    """Tell how long a block took, also when it failed."""
    start = perf_counter()
    try:
        yield
    finally:
        observe(stage, perf_counter() - start)
