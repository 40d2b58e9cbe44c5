"""A file that is there whole or not at all, and never in place of another.

    NAME.part/      held by whoever writes NAME, who alone may use it; what a killed process left in it is
      lock          written over
      file          becomes NAME when it is whole

Called by `export` and `backup`, and by commands that write a file of their own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.file_mode import mode_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_NAME: Final = "lock"
_FILE_NAME: Final = "file"
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_NOT_OURS: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EACCES})
"""Errors for a name that is not of the expected kind, is a link, or belongs to somebody else."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of file systems that have no hard links, or do not let this user make one."""


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file gets the name `path` once the block has succeeded and it is on disk.

    Raises
    ------
    StoreInvalid
        `path` exists already or somebody else has made it meanwhile, another process or thread is writing it,
        its directory does not exist, or `NAME.part` is not a folder that this user alone may change.
    StoreUnavailable
        The disk is full or fails, the directory may not be used, or the name is too long: it has five
        characters more while the file is written.
    """
    try:
        is_there, folder = mode_of(path) is not None or path.is_symlink(), mode_of(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error
    if is_there:
        raise _there_already(path)
    if folder is None or not stat.S_ISDIR(folder):
        raise StoreInvalid(f"there is no directory {path.parent}")
    try:
        with _part_of(path) as (part, fd):
            yield part
            os.fsync(fd)
            if not os.path.samestat(os.fstat(fd), part.lstat()):
                raise StoreInvalid(f"{path.name} is not written: somebody else changed {part.parent.name}")
            _name(part, path)
            _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"{path.name} cannot be written: {getattr(error, 'strerror', None) or error}")


@contextmanager
def _part_of(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield an empty file beside `path` that nobody else writes: its path and its file descriptor."""
    folder = path.with_name(f"{path.name}.part")
    folder_fd, lock_fd = _held(folder, path)
    try:
        _remove(folder_fd)
        fd = os.open(_FILE_NAME, _NEW, 0o644, dir_fd=folder_fd)
        try:
            yield folder / _FILE_NAME, fd
        finally:
            os.close(fd)
    finally:
        with suppress(OSError):  # what kept it from being written keeps it from being removed
            _remove(folder_fd)
            os.unlink(_LOCK_NAME, dir_fd=folder_fd)
            folder.rmdir()
        os.close(lock_fd)
        os.close(folder_fd)


def _held(folder: Path, path: Path) -> tuple[int, int]:
    """Create a folder if it is missing; return descriptors of it and of its lock, held until it is closed."""
    while True:
        try:
            folder.mkdir(0o700)
            is_new = True
        except FileExistsError:
            is_new = False
        try:
            # Opened once: where others write beside it, its name may lead elsewhere at any moment.
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return folder_fd, _locked(folder_fd, path, is_new=is_new)
            except BaseException:
                os.close(folder_fd)
                raise
        except FileNotFoundError:  # whoever held the folder has just removed it
            continue
        except OSError as error:
            if is_new:
                with suppress(OSError):
                    folder.rmdir()
            if error.errno not in _NOT_OURS:
                raise
            raise _in_the_way(path) from None


def _locked(folder_fd: int, path: Path, *, is_new: bool) -> int:
    """Lock an open folder; FileNotFoundError if it was removed meanwhile.

    Parameters
    ----------
    is_new : bool
        Whether this process has just made it.
    """
    try:
        fd, is_made = os.open(_LOCK_NAME, _NEW, 0o600, dir_fd=folder_fd), True
    except FileExistsError:
        fd, is_made = os.open(_LOCK_NAME, _NEW & ~os.O_CREAT & ~os.O_EXCL, dir_fd=folder_fd), False
    try:
        _lock(fd, folder_fd, path)
        found = os.fstat(folder_fd)
        # Some mounts keep neither owners nor modes: what was just made there shows how they see this user.
        me = os.fstat(fd).st_uid if is_made else os.geteuid()
        is_ours = found.st_uid == me and (is_new or not found.st_mode & _WRITABLE_BY_OTHERS)
        if is_made and not is_ours:
            os.unlink(_LOCK_NAME, dir_fd=folder_fd)
    except BaseException:
        os.close(fd)
        raise
    if not is_ours:
        os.close(fd)
        raise _in_the_way(path)
    return fd


def _lock(fd: int, folder_fd: int, path: Path) -> None:
    """Lock an open file; FileNotFoundError if it is not the folder's any more."""
    try:
        # Not what is written itself: on some network mounts SQLite could then not lock that.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreInvalid(f"{path.name} is being written already") from None
    except OSError:  # a mount without locks: then nobody is kept out
        return
    if not os.path.samestat(os.fstat(fd), os.stat(_LOCK_NAME, dir_fd=folder_fd, follow_symlinks=False)):
        raise FileNotFoundError


def _in_the_way(path: Path) -> StoreInvalid:
    return StoreInvalid(
        f"{path.name} cannot be written while {path.name}.part is there, which is no folder of this user"
        " alone: remove it if nobody needs it, or take another name"
    )


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
    return StoreInvalid(f"{path.name or path} exists already")


def _remove(folder_fd: int) -> None:
    for name in (_FILE_NAME, f"{_FILE_NAME}-journal"):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder_fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
