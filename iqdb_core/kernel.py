"""The one way in which numeric functions are compiled.

One decorator for every numeric kernel: releases the GIL, keeps the compiled code on disk, and still works
where nothing can be written. No fastmath and no parallel threads, ever: results must be the same to the bit
everywhere. Knows nothing of what is computed.

numba caches machine code until the file of the function changes in time or size. Here it is cached as long as
the content of every file that was compiled into it is the same: kernels are inlined into each other across
files, and a checkout or an image build gives files new times, but not new content.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from numba import config, njit, types
from numba.core.runtime import rtsys

from iqdb_core.cache_folder import SHARED, private_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY: Final = Path(__file__).parent
_PROCESS: Final = secrets.token_hex(4)
_COMPILED_TOGETHER: Final = {
    "index/simd": ("index/simd",),
    "index/segment": ("index/simd", "index/segment"),
    "index/row_code": ("index/simd", "index/row_code"),
    "index/ranking": ("index/simd", "index/segment", "index/ranking"),
}
"""Folders whose kernels call kernels of other files, in their folder and those named here. Elsewhere a
kernel calls only those of its own file."""


def kernel(
    *, inline: bool = False, merged: bool = False, allocates: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function with numba when it is first called.

    Parameters
    ----------
    inline : bool
        Always compile it into its callers: for functions so small that a call would cost more, or that work
        on vectors, which should stay in registers.
    merged : bool
        Make it a part of its caller before anything is compiled: for large functions with one caller.
        Otherwise it would be optimised on its own, and once more in each caller of its caller.
    allocates : bool
        Whether it creates arrays. If not, reference counting of arrays is left out, which would cost more
        than the work of inner kernels.

    Returns
    -------
    callable
        The decorator. Its result is called like the function; `py_func` is the original one.

    Notes
    -----
    Division by zero follows IEEE 754, as in numpy. Compiled code is cached in the first of these that can be
    written: `NUMBA_CACHE_DIR`, `__pycache__` beside the source, the user's cache directory, a folder of the
    user's among the temporary files. Without any of them each process compiles again.
    """
    options: dict[str, bool | str] = {
        "nogil": True,
        "error_model": "numpy",
        "forceinline": inline,
        "_nrt": allocates,
        "no_cfunc_wrapper": True,  # nobody calls kernels from C, and each would cost an eighth of its time
    }
    if merged:
        options["inline"] = "always"

    def compile_later(function: Callable[P, R]) -> Callable[P, R]:
        compiled: Callable[P, R] = _cached(function, options) or njit(**options)(function)
        if not inline:
            _take_no_literals(compiled)
        return compiled

    return compile_later


def _take_no_literals(compiled: Any) -> None:
    """Compile a kernel once for all integers that it is called with, instead of once for each constant."""
    get_call_template = compiled.get_call_template

    def without_literals(arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        plain = {name: types.unliteral(value) for name, value in named.items()}
        return get_call_template(tuple(types.unliteral(value) for value in arguments), plain)

    compiled.get_call_template = without_literals


def load_kept(compiled: Any) -> None:
    """Load the cached code of a kernel for this kind of machine, without calling it.

    Parameters
    ----------
    compiled : callable
        The result of the decorator.
    """
    cache = compiled._cache  # noqa: SLF001
    if not hasattr(cache, "_cache_file"):  # no folder can be written
        return
    codegen = compiled.targetctx.codegen()
    for key in cache._cache_file._load_index():  # noqa: SLF001
        arguments = key[0]
        if key == cache._index_key(arguments, codegen):  # noqa: SLF001
            compiled.compile(arguments)


def _cached(function: Callable[P, R], options: dict[str, bool | str]) -> Any:
    """Return numba's dispatcher of a function, cached on disk; None if no folder can be written."""
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # numba raises this if no cache directory can be written
        folder = private_temporary_folder()
        if folder is None or str(folder) == config.CACHE_DIR:
            return None
        config.CACHE_DIR = str(folder)
        return _cached(function, options)
    _keep_by_content(compiled._cache._cache_file, _stamp(Path(function.__code__.co_filename)))  # noqa: SLF001
    _load_without_compiler(compiled._cache, allocates=bool(options["_nrt"]))  # noqa: SLF001
    return compiled


def _load_without_compiler(cache: Any, *, allocates: bool) -> None:
    """Let one function's cache load code without the parts of numba that only compile.

    This saves 50 modules, 8 MB, and a third of the time in which a server loads its compiled kernels. Unless
    the function creates arrays, it also saves numba's reference counting of arrays, which each process would
    compile again. If something has to be compiled after all, numba loads these parts then.
    """

    def load_overload(signature: Any, target_context: Any) -> Any:
        if allocates:
            rtsys.initialize(target_context)
        with cache._guard_against_spurious_io_errors():  # noqa: SLF001
            return cache._load_overload(signature, target_context)  # noqa: SLF001

    cache.load_overload = load_overload


def _keep_by_content(cache_file: Any, stamp: str) -> None:
    """Bind one function's cache to the content of its files; numba has no option for that.

    numba reads an index only if it contains numba's own version. A stamp of the content is added to that
    version, so an index of other content is never used. numba also writes the index before the code, always
    under the same names: a process that is killed or started in between could leave or load another
    function's code. Here the names are different for each content and process, so that cannot happen.

    A truncated file, as after a power cut, counts as missing, and is replaced by newly compiled code.
    """
    cache_file._version = f"{cache_file._version} {stamp}"  # noqa: SLF001
    cache_file._source_stamp = stamp  # noqa: SLF001
    base = cache_file._index_name.removesuffix(".nbi")  # noqa: SLF001
    cache_file._data_name_pattern = f"{base}.{stamp[:8]}.{_PROCESS}.{{number:d}}.nbc"  # noqa: SLF001
    load_index, load_data, save = cache_file._load_index, cache_file._load_data, cache_file.save  # noqa: SLF001

    def load_whole_index() -> Any:
        try:
            return load_index()
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - unpickling damaged data raises anything
            return {}

    def load_whole_data(name: str) -> Any:
        try:
            return load_data(name)
        except Exception as error:  # as above
            raise FileNotFoundError(name) from error

    def save_and_tidy(key: Any, data: Any) -> None:
        save(key, data)
        for old in Path(cache_file._cache_path).glob(f"{glob.escape(base)}.*.nbc"):  # noqa: SLF001
            if f"{base}.{stamp[:8]}." not in old.name:
                old.unlink(missing_ok=True)

    cache_file._load_index = load_whole_index  # noqa: SLF001
    cache_file._load_data = load_whole_data  # noqa: SLF001
    cache_file.save = save_and_tidy


@functools.cache
def _stamp(file: Path) -> str:
    """Return a text that changes whenever the compiled code of a file's kernels may change."""
    folder = file.parent.relative_to(_LIBRARY).as_posix() if file.is_relative_to(_LIBRARY) else ""
    digest = hashlib.blake2b(str(bool(config.BOUNDSCHECK)).encode(), digest_size=16)
    for shared in SHARED:
        digest.update(_content_hash(_LIBRARY / shared))
    if folder in _COMPILED_TOGETHER:
        for part in _COMPILED_TOGETHER[folder]:
            digest.update(_folder_hash(_LIBRARY / part))
    else:
        digest.update(_content_hash(file))
    return digest.hexdigest()


@functools.cache
def _folder_hash(folder: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + _content_hash(source))
    return digest.digest()


@functools.cache
def _content_hash(file: Path) -> bytes:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
