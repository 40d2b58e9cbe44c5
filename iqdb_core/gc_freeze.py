"""Keeps objects that stay until the process ends out of garbage collection.

Collections while the compiler was imported took 40 % of that time and found nothing. Called by composition
roots, which own their process; a library must not use it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_gc() -> Iterator[None]:
    """Suspend garbage collection inside the block, then exempt all objects that exist from later collections.

    Notes
    -----
    This affects the whole process, objects of other threads included. One block at a time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
