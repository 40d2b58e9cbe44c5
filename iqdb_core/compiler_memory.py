"""Reduces the memory that the compiler takes in a process that only loads compiled code.

Most of it is LLVM's own code: tens of megabytes of a library, read to load a few kernels. Dropping its pages
is harmless: if they are needed again, they are read from the page cache. Called by `compiling`.
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
    """A memory mapping of the process."""

    start: int
    size: int
    is_untouched: bool


def load_lean() -> None:
    """Import the part of the compiler that loads kernels, without scipy: 12 MB that no kernel uses.

    It also skips numba's search of all installed packages for extensions, of which none is needed.
    """
    if "numba" in sys.modules or "scipy" in sys.modules:
        return
    sys.modules["scipy"] = None  # type: ignore[assignment] # makes Python raise ImportError
    try:
        # The only part that imports scipy; compiled code that uses functions of numpy refers to it.
        with without_gc():
            importlib.import_module("numba.np.arraymath")
            vars(importlib.import_module("numba.core.entrypoints"))["_already_initialized"] = True
    finally:
        del sys.modules["scipy"]


def give_back() -> None:
    """Free memory that only compiling needs. Does nothing on other systems than Linux."""
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
    """Return the mappings of a library.

    Parameters
    ----------
    library : str
        The beginning of its file name.
    smaps : str
        The content of `/proc/PID/smaps`.

    Returns
    -------
    list of _Mapping
        `is_untouched` is true for a read-only mapping that equals the file: no page of it was ever changed.
        (Pages with addresses of other libraries are changed before they become read-only.)
    """
    found = re.finditer(
        rf"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<rights>\S+) .*/{re.escape(library)}[^/\n]*\n"
        r"(?P<details>(?:[A-Z].*\n)*)",
        smaps,
        re.MULTILINE,
    )
    mappings = []
    for one in found:
        start, end = int(one["start"], 16), int(one["end"], 16)
        is_untouched = "w" not in one["rights"] and not _CHANGED.search(one["details"])
        mappings.append(_Mapping(start, end - start, is_untouched))
    return mappings
