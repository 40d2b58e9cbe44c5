"""What this process may use of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENA_SETTINGS: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Whoever sets one of these has decided about the allocator himself."""


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1.

    A container's set of cores is respected (`--cpuset-cpus`); a quota of processor time (`--cpus`) is not.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; return how many that is.

    The usual soft limit, 1,024, is for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems say "infinite" and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


def share_one_heap() -> None:
    """Let all threads of this process allocate from one heap; call it before there are any.

    glibc gives each thread one of its own, up to eight per core, and what one has freed the others cannot
    have: after an IQDB file was opened that was 28 MB. Our threads spend their time in kernels and decoders,
    which allocate seldom. Does nothing with other allocators, or where the environment says what to do.
    """
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _ARENA_SETTINGS):
        limit = getattr(ctypes.CDLL(None), "mallopt", None)
        if limit is not None:
            limit(_M_ARENA_MAX, 1)
