"""A file that is there whole or not at all. Called by `export` and `backup`."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iqdb_core.errors import StoreInvalid, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to, and rename it to `path` once the block has succeeded and it is on disk.

    Raises
    ------
    StoreInvalid
        `path` exists already, or its directory does not.
    StoreUnavailable
        The disk is full or fails, the directory may not be used, or the name is too long: while it is
        written, five characters more are in it.
    """
    try:
        is_there, has_directory = path.exists(), path.parent.is_dir()
    except OSError as error:
        raise StoreUnavailable(f"{path.name} cannot be written: {error}") from error
    if is_there:
        raise StoreInvalid(f"{path.name} exists already")
    if not has_directory:
        raise StoreInvalid(f"there is no directory for {path.name}")
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        yield part
        _sync(part)
        part.rename(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path.name} cannot be written: {error}") from error
    finally:
        for left in (part, part.with_name(f"{part.name}-journal")):
            with suppress(OSError):  # what kept it from being written keeps it from being removed
                left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
