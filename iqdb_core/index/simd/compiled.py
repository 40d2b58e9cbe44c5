"""The one way in which the index's kernels are compiled.

Answers: how does a plain function become machine code that releases the GIL and is compiled once per machine?
Knows nothing of what is computed. Called by every kernel file of the room.

Kernels call each other across files and are compiled into one another. numba keeps machine code until the
file of the function changes; here it is kept until any kernel file changes, because code that has swallowed a
stale callee would be wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from numba import config

import iqdb_core.kernel
import iqdb_core.model
from iqdb_core.kernel import cached_where_possible

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def _stamp() -> tuple[tuple[str, int, int], ...]:
    """Return name, time and size of every file whose change makes compiled kernels stale."""
    here = Path(__file__)
    rooms = [here.parent.with_name(name) for name in ("segment", "ranking", "simd")]
    files = [file for room in rooms for file in sorted(room.glob("*.py"))]
    files += [Path(iqdb_core.kernel.__file__), Path(iqdb_core.model.__file__)]
    stamps = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return (("checks bounds", int(bool(config.BOUNDSCHECK)), 0), *stamps)


_STAMP: Final = _stamp()


def kernel(*, inline: bool = False, allocates: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function with numba when it is first called.

    Parameters
    ----------
    inline : bool
        Always compile it into its callers: for what is too small to be worth a call, or works on vectors,
        which should stay in registers.
    allocates : bool
        It makes arrays. Otherwise none is made and none is counted: counting the references to arrays costs
        more than what the inner kernels do with them.

    Returns
    -------
    callable
        The decorator.

    Notes
    -----
    Never fastmath, never parallel: results are the same to the bit everywhere, and several threads may call.
    Division by zero follows IEEE 754. Without a place to keep compiled code, each process compiles anew.
    """

    def compile_later(function: Callable[P, R]) -> Callable[P, R]:
        compiled = cached_where_possible(function, forceinline=inline, _nrt=allocates)
        if compiled.stats.cache_path is not None:
            compiled._cache._cache_file._source_stamp = _STAMP  # noqa: SLF001 - numba offers no other way
        return compiled  # type: ignore[no-any-return]

    return compile_later
