"""Which change was the newest that this index held? Kept on disk, because a checkpoint may be minutes old.

After a crash it says what the store must still have: that its log was removed, or an older state put back,
would otherwise go unnoticed. Written after each batch, and not synced: a power cut takes only this hint.
Called by `CheckpointKeeper`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from iqdb_core.model import Mark

if TYPE_CHECKING:
    from pathlib import Path

_SIZE: Final = 256
"""Bytes of a record, which is written over the one before in one piece."""


def note_newest(path: Path, store_id: str, seq: int, mark: Mark | None) -> None:
    """Remember the newest change, and the newest mark of the store's history at or below it.

    On a full or failing disk the file stays as it is, and says less than it could.
    """
    record = json.dumps([store_id, seq, None if mark is None else [mark.seq, mark.token]])
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, record.ljust(_SIZE).encode())
        finally:
            os.close(fd)


def noted_newest(path: Path, store_id: str) -> tuple[int, Mark | None] | None:
    """Return what was remembered of this store; None if nothing was, or nothing that can be read."""
    try:
        found_id, seq, mark = json.loads(path.read_bytes())
        found = int(seq), None if mark is None else Mark(int(mark[0]), str(mark[1]))
    except (OSError, ValueError, TypeError, IndexError):
        return None
    return found if found_id == store_id else None
