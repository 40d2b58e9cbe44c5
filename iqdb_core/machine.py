"""What this process may use of the machine."""

from __future__ import annotations

import contextlib
import os
import resource


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1; a container's share of them is respected."""
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
