"""The one way in which numeric functions are compiled.

One decorator for every numeric kernel: releases the GIL, keeps the compiled code on disk, and still works
where nothing can be written. No fastmath and no parallel threads, ever: results must be the same to the bit
everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba when it is first called.

    Parameters
    ----------
    function : callable
        Plain numeric code. It may call kernels of its own file only: numba notices a changed file, but not
        that a file which it calls has changed.

    Returns
    -------
    callable
        The compiled function; `py_func` is the plain one.

    Notes
    -----
    The compiled code is kept in the first of these that can be written: `NUMBA_CACHE_DIR`, `__pycache__`
    beside the source, the user's cache directory. With none of them it is compiled anew by each process.
    """
    compiled: Callable[P, R] = cached_where_possible(function)
    return compiled


def cached_where_possible(function: Callable[P, R], **options: bool) -> Any:
    """Return numba's dispatcher of `function`, with further options of numba; see `kernel`."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # numba's way to say that no cache directory can be written
        return njit(nogil=True, error_model="numpy", **options)(function)
