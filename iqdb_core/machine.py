"""Resources of the machine that this process may use."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_ARENA_SETTINGS: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD")
"""If one of these is set, the operator has configured the allocator."""


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1.

    Respects a container's set of cores (`--cpuset-cpus`), but not a quota of processor time (`--cpus`).
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def raise_file_limit() -> None:
    """Raise this process's limit of open files as far as the system allows.

    The usual soft limit, 1,024, exists for programs that use `select`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems report "infinite" but allow less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def share_one_heap() -> None:
    """Let all threads of this process allocate from one heap; to be called before there are any.

    glibc gives each thread a heap of its own, up to eight per core, and memory freed in one is not available
    to the others: 28 MB after an IQDB file was opened. Our threads spend their time in kernels and decoders,
    which allocate seldom. Does nothing with other allocators, or if the environment configures this.
    """
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _ARENA_SETTINGS):
        limit = getattr(ctypes.CDLL(None), "mallopt", None)
        if limit is not None:
            limit(_M_ARENA_MAX, 1)
