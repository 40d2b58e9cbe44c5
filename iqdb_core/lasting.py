"""What is made once and stays until the process ends, kept away from the garbage collector.

Answers: how is much imported without looking through all of it over and over? Collections in the middle of
importing the compiler took 40 % of that time and found nothing. Called by composition roots, which own their
process; a library must not use it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """Let what the block makes stay for good: no collection happens in it, and none looks at it later.

    Notes
    -----
    This is so for all that the process has by then, other threads' objects included. One block at a time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
