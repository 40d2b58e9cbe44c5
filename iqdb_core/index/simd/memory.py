"""Allocates memory for words, and returns it to the system.

Large arrays get a mapping of their own, so that their memory returns to the system at once when they are
dropped; small ones start on cache lines. Called by all parts of the index.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
_HUGE_PAGE: Final = 2 << 20
WORD_BYTES: Final = 8
VECTOR_WORDS: Final = 8
"""One cache line, and the widest register of today's machines."""


def allocate(n_words: int) -> NDArray[np.uint64]:
    """Return zeroed uint64 words in a mapping of their own, on huge pages where they fill them whole."""
    n_bytes = n_words * WORD_BYTES
    # Shared memory, the default, would get no huge pages.
    pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = n_bytes // _HUGE_PAGE * _HUGE_PAGE
    if whole and hasattr(mmap, "MADV_HUGEPAGE"):
        # The rest stays on small pages: a huge one would occupy memory beyond the end of the words. A system
        # without huge pages refuses the advice, and small pages work as well.
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE, 0, whole)
    return np.frombuffer(pages, dtype=np.uint64)


def aligned_zeros(n_words: int) -> NDArray[np.uint64]:
    """Return zeroed uint64 words that start on a cache line, in the allocator's memory."""
    padded = np.zeros(n_words + VECTOR_WORDS, dtype=np.uint64)
    first = -(padded.ctypes.data // WORD_BYTES) % VECTOR_WORDS
    return padded[first : first + n_words]


def read_only(array: NDArray[T]) -> NDArray[T]:
    """Return a read-only, contiguous view of an array, or of a copy if it is not contiguous.

    Kernels are compiled separately for read-only and writable arrays, and arrays from outside may be either.
    As all become read-only, no kernel has to be compiled once more while the server is serving.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def release_free_memory() -> None:
    """Return freed memory to the system, which glibc otherwise keeps. Does nothing without glibc."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
