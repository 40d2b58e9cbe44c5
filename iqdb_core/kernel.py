"""The one way in which numeric functions are compiled.

One decorator for every numeric kernel: releases the GIL, keeps the compiled code on disk, and still works
where nothing can be written. No fastmath and no parallel threads, ever: results must be the same to the bit
everywhere. Knows nothing of what is computed.

numba keeps machine code until the file of the function changes, by time and size. Here it is kept as long as
the content of every file that was compiled into it is the same: kernels that call each other across files
swallow each other, and a checkout or an image build gives files new times, not new content.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from numba import config, njit

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY: Final = Path(__file__).parent
_COMPILED_TOGETHER: Final = {
    "index/simd": ("index/simd",),
    "index/segment": ("index/simd", "index/segment"),
    "index/ranking": ("index/simd", "index/segment", "index/ranking"),
}
"""Folders whose kernels call kernels of other files: theirs and those of the folders named here. Everywhere
else a kernel calls only those of its own file."""


def kernel(*, inline: bool = False, allocates: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function with numba when it is first called.

    Parameters
    ----------
    inline : bool
        Always compile it into its callers: for what is too small to be worth a call, or works on vectors,
        which should stay in registers.
    allocates : bool
        It makes arrays. Otherwise none is made and none is counted: counting the references to arrays costs
        more than what inner kernels do with them.

    Returns
    -------
    callable
        The decorator. What it returns is called like the function; `py_func` is the plain one.

    Notes
    -----
    Division by zero follows IEEE 754, as numpy's does. The compiled code is kept in the first of these that
    can be written: `NUMBA_CACHE_DIR`, `__pycache__` beside the source, the user's cache directory. With none
    of them it is compiled anew by each process.
    """
    options = {"nogil": True, "error_model": "numpy", "forceinline": inline, "_nrt": allocates}

    def compile_later(function: Callable[P, R]) -> Callable[P, R]:
        try:
            compiled = njit(cache=True, **options)(function)
        except RuntimeError:  # numba's way to say that no cache directory can be written
            compiled = njit(**options)(function)
        else:
            # numba offers no other way to say until when its code is right.
            compiled._cache._cache_file._source_stamp = _stamp(Path(function.__code__.co_filename))  # noqa: SLF001
        return compiled  # type: ignore[no-any-return]

    return compile_later


def _stamp(file: Path) -> str:
    """Return what changes whenever the compiled code of a file's kernels would be wrong or another."""
    folder = file.parent.relative_to(_LIBRARY).as_posix() if file.is_relative_to(_LIBRARY) else ""
    digest = hashlib.blake2b(str(bool(config.BOUNDSCHECK)).encode(), digest_size=16)
    for shared in (_LIBRARY / "kernel.py", _LIBRARY / "model.py"):
        digest.update(_content_hash(shared))
    if folder in _COMPILED_TOGETHER:
        for part in _COMPILED_TOGETHER[folder]:
            for source in sorted((_LIBRARY / part).glob("*.py")):
                digest.update(source.name.encode() + _content_hash(source))
    else:
        digest.update(_content_hash(file))
    return digest.hexdigest()


@functools.cache
def _content_hash(file: Path) -> bytes:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
