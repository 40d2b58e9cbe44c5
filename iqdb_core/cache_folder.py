"""Finds a folder for compiled code, and remembers what has been compiled into it.

Says which folder this user can write, even without a home, whether everything is compiled in it, and whether
another process is compiling now. Loads no compiler. Called by `kernel` and `compiling`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARY: Final = Path(__file__).parent
SHARED: Final = ("kernel.py", "model.py", "index/rows.py")
"""Files whose constants are compiled into kernels of other files."""
COMPILED: Final = (
    *SHARED,
    *(f"index/{room}/*.py" for room in ("simd", "segment", "row_code", "ranking")),
    "signature/**/*.py",
)
"""Patterns of all files that have kernels, or are compiled into some."""
_SWITCHES: Final = ("NUMBA_BOUNDSCHECK", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")


def private_temporary_folder() -> Path | None:
    """Return a folder among the temporary files that only this user can write; None if there is none.

    Cached code is executed unchecked, so a folder that others own or can write is never used.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"iqdb-kernels-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
    return folder if is_ours else None


def is_kept(part: str) -> bool:
    """Return whether `mark_kept` was called for this part, by the same program on the same machine."""
    # Not Path.exists: it raises if a folder may not be entered.
    return any(os.path.exists(folder / _mark(part)) for folder in _folders())  # noqa: PTH110


def mark_kept(part: str) -> None:
    """Remember that the kernels of a part are compiled on disk; does nothing if no folder can be written."""
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"iqdb-{part}.*.kept"):
                old.unlink(missing_ok=True)
            (folder / _mark(part)).touch()
        except OSError:
            continue
        return


@contextlib.contextmanager
def compiling_lock(part: str) -> Iterator[None]:
    """Wait until no other process holds the lock of a part, and hold it.

    Of processes that start together, one compiles and the others wait for the result. Where no lock file can
    be created, each process compiles for itself.
    """
    with contextlib.ExitStack() as held:
        for folder in _folders():
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                # Other users cannot open it, so none of them can keep this process waiting.
                lock = os.open(folder / f"iqdb-{part}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                held.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                break
        yield


def can_keep() -> bool:
    """Return whether there is a folder for compiled code."""
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return True
    return False


def _folders() -> list[Path]:
    """Return the folders in which numba, as `kernel` sets it up, tries to write, in order."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    folders = [_LIBRARY / "__pycache__"]
    home = os.environ.get("HOME")
    if home:
        folders.append(Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "iqdb")
    private = private_temporary_folder()
    return [*folders, private] if private else folders


def _mark(part: str) -> str:
    return f"iqdb-{part}.{_fingerprint()}.kept"


@functools.cache
def _fingerprint() -> str:
    """Return a text that changes if the sources, the compiler or the processor change."""
    digest = hashlib.blake2b(digest_size=12)
    for source in sorted(path for pattern in COMPILED for path in _LIBRARY.glob(pattern)):
        digest.update(source.read_bytes())
    versions = [sys.version, importlib.metadata.version("numba"), platform.machine(), _processor()]
    digest.update("|".join([*versions, *(os.environ.get(name, "") for name in _SWITCHES)]).encode())
    return digest.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted(line for line in lines if line.startswith(("model name", "flags", "Features"))))
