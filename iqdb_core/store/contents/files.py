"""A file that is there whole or not at all, and never in place of another.

    NAME.part/      held by whoever writes NAME; what a killed process left in it is written over
      lock
      file          becomes NAME when it is whole

Called by `export` and `backup`, and by commands that write a file of their own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_NAME: Final = "lock"
_FILE_NAME: Final = "file"
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What a file system says that gives a file no second name, or not to this user."""


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file gets the name `path` once the block has succeeded and it is on disk.

    Raises
    ------
    StoreInvalid
        `path` exists already or somebody else has made it meanwhile, another process or thread is writing it,
        or its directory does not exist.
    StoreUnavailable
        The disk is full or fails, the directory may not be used, or the name is too long: while it is
        written, five characters more are in it.
    """
    try:
        is_there, has_directory = path.exists() or path.is_symlink(), path.parent.is_dir()
    except OSError as error:
        raise StoreUnavailable(f"{path.name} cannot be written: {error}") from error
    if is_there:
        raise _there_already(path)
    if not has_directory:
        raise StoreInvalid(f"there is no directory for {path.name}")
    try:
        with _part_of(path) as part:
            yield part
            _sync(part)
            _name(part, path)
            _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path.name} cannot be written: {error}") from error


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Yield the name of a file beside `path` that nobody else writes, and that is not there yet."""
    folder = path.with_name(f"{path.name}.part")
    part = folder / _FILE_NAME
    lock_fd = _locked(folder, path)
    try:
        _remove(part)
        yield part
    finally:
        with suppress(OSError):  # what kept it from being written keeps it from being removed
            _remove(part)
            (folder / _LOCK_NAME).unlink(missing_ok=True)
            folder.rmdir()
        os.close(lock_fd)


def _locked(folder: Path, path: Path) -> int:
    """Make a folder if it is not there, and return what holds it until it is closed."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # whoever held the folder has just removed it
            continue
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            raise
        try:
            if _is_held(fd, folder):
                return fd
        except BaseException as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise StoreInvalid(f"{path.name} is being written already") from None
            raise
        os.close(fd)


def _is_held(fd: int, folder: Path) -> bool:
    """Lock an open file, and return whether it is the folder's; BlockingIOError if somebody else has it."""
    try:
        # Not what is written itself: on some network mounts SQLite could then not lock that.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a mount without locks: then nobody is kept out
        return True
    try:
        return os.path.samestat(os.fstat(fd), (folder / _LOCK_NAME).stat())
    except FileNotFoundError:
        return False


def _name(part: Path, path: Path) -> None:
    """Give a file its name, unless somebody else has made a file of that name."""
    try:
        os.link(part, path)  # a new name would take the place of a file of the same name
    except FileExistsError:
        raise _there_already(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise _there_already(path) from None
        part.rename(path)


def _there_already(path: Path) -> StoreInvalid:
    return StoreInvalid(f"{path.name} exists already")


def _remove(part: Path) -> None:
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
