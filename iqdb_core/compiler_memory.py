"""What the compiler takes of the memory of a process that only loads what was compiled before.

Answers: what is not needed at all, and what can be given back? LLVM's own code is most of it: tens of
megabytes of a library that were read to load a few kernels. Dropping its pages changes nothing but where they
are read from should they be needed again, which is the system's cache of the file. Called by `compiling`.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from iqdb_core.gc_freeze import without_gc

_LIBRARY: Final = "libllvmlite"
_MAPS: Final = Path("/proc/self/smaps")
_CHANGED: Final = re.compile(r"^(?:Private_Dirty|Anonymous|Swap): +[1-9]", re.MULTILINE)


class _Mapping(NamedTuple):
    """A part of the process's memory."""

    start: int
    size: int
    is_untouched: bool


def load_lean() -> None:
    """Import what of the compiler loads kernels, without scipy: 12 MB of linear algebra that none uses.

    Nor are all installed packages looked through for extensions of the compiler, of which none is needed.
    """
    if "numba" in sys.modules or "scipy" in sys.modules:
        return
    sys.modules["scipy"] = None  # type: ignore[assignment] # Python's way to say that there is none
    try:
        # The only part that looks for scipy; what was compiled of numpy's functions refers to it.
        with without_gc():
            importlib.import_module("numba.np.arraymath")
            vars(importlib.import_module("numba.core.entrypoints"))["_already_initialized"] = True
    finally:
        del sys.modules["scipy"]


def give_back() -> None:
    """Give back memory that only compiling needs. Does nothing where the system is not Linux."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    with suppress(OSError, ValueError):
        for part in mappings_of(_LIBRARY, _MAPS.read_text()):
            if part.is_untouched:
                libc.madvise(ctypes.c_void_p(part.start), ctypes.c_size_t(part.size), mmap.MADV_DONTNEED)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def mappings_of(library: str, smaps: str) -> list[_Mapping]:
    """Return where a library is mapped.

    Parameters
    ----------
    library : str
        What its file's name begins with.
    smaps : str
        What Linux tells of a process's memory.

    Returns
    -------
    list of _Mapping
        `is_untouched` tells whether it cannot be written and has nothing but what the file has: no page of it
        was ever changed, as those with the addresses of other libraries are before they are locked.
    """
    found = re.finditer(
        rf"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<rights>\S+) .*/{re.escape(library)}[^/\n]*\n"
        r"(?P<told>(?:[A-Z].*\n)*)",
        smaps,
        re.MULTILINE,
    )
    mappings = []
    for one in found:
        start, end = int(one["start"], 16), int(one["end"], 16)
        is_untouched = "w" not in one["rights"] and not _CHANGED.search(one["told"])
        mappings.append(_Mapping(start, end - start, is_untouched))
    return mappings
