"""The bytes of a picture, from wherever it is given: read whole, within limits. Called by the commands."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import UnsupportedFormat

if TYPE_CHECKING:
    from iqdb_client import Picture

MAX_FILE_BYTES: Final = 1024 * 1024 * 1024
"""More than any picture of the usual --max-pixels takes. A film would take all of the memory."""
MAX_PIPED_BYTES: Final = 64 * 1024 * 1024


def content_of(picture: Picture) -> bytes | str:
    """Return the bytes of a picture, or the hash as which it was given; raises as `content_of_file`."""
    if isinstance(picture, str):
        return picture
    return content_of_file(picture) if isinstance(picture, Path) else _not_empty(picture)


def content_of_file(path: Path) -> bytes:
    """Return the bytes of a file or a pipe. Raises OSError, and ImageError for none or far too many."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            if found.st_size > MAX_FILE_BYTES:
                raise UnsupportedFormat(f"it has {found.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
            return _not_empty(file.read())
        content = file.read(MAX_PIPED_BYTES + 1)
    if len(content) > MAX_PIPED_BYTES:
        raise UnsupportedFormat(f"it gives more than {MAX_PIPED_BYTES:,} bytes")
    return _not_empty(content)


def _not_empty(content: bytes) -> bytes:
    # A failed download leaves empty files; a message about formats would mislead.
    if not content:
        raise UnsupportedFormat("it is empty")
    return content
