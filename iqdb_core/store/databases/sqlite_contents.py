"""The images of a file as columns, thousands of rows at a time, for a takeover that hands them on.

Answers: what is in the next rows, and is each of them an ordinary signature? One cursor reads the whole table
once. Writes nothing. Called by `sqlite`.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.codec import positions_are_valid
from iqdb_core.model import CHANNELS, KEPT, POSITION_BYTES
from iqdb_core.store import columns
from iqdb_core.store.backend import BEFORE_ALL, Contents, Look

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

GROUP: Final = 65_536
"""Images handed on at once."""
ROWS_PER_FETCH: Final = 512
"""So many rows' objects stay in the processor's cache until they have become columns, and are too few to set
off the garbage collector, which would look through them in vain."""
_ROWS: Final = "SELECT post_id, avglf1, avglf2, avglf3, sig FROM images WHERE id > ? ORDER BY id"
_LATER: Final = "SELECT id FROM images WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"


def read(reader: sqlite3.Connection) -> Generator[Look]:
    """Yield all images, in groups by ascending row id.

    A group with anything in it that is no ordinary signature comes without contents: whoever looks at it row
    by row will see what there is.
    """
    rows = reader.execute(_ROWS, (BEFORE_ALL,))
    known, n_since = BEFORE_ALL, 0
    while True:
        post_ids = np.empty(GROUP, np.int64)
        averages = np.empty((GROUP, CHANNELS))
        positions = np.empty((GROUP, CHANNELS, KEPT), np.int16)
        n, is_usual = 0, True
        while n < GROUP and (some := rows.fetchmany(min(ROWS_PER_FETCH, GROUP - n))):
            part = slice(n, n + len(some))
            is_usual = is_usual and _put(some, post_ids[part], averages[part], positions[part])
            n += len(some)
        if n == 0:
            return
        if is_usual:
            yield Look(n, Contents(post_ids[:n], averages[:n], positions[:n]))
        else:
            # Row ids are objects, too, and hardly ever needed: found only now.
            if n_since:
                (known,) = reader.execute(_LATER, (known, n_since - 1)).fetchone()
                n_since = 0
            yield Look(n, unusual_after=known)
        n_since += n


def _put(
    rows: Sequence[tuple[Any, ...]],
    post_ids: NDArray[np.int64],
    averages: NDArray[np.float64],
    positions: NDArray[np.int16],
) -> bool:
    """Put rows into columns, and return whether each of them is an ordinary signature."""
    ids, *channels, blobs = zip(*rows, strict=True)
    try:
        # An array of numbers takes nothing else: no text that could be read as one, and no fraction as an id.
        post_ids[:] = array("q", ids)
        for channel, values in enumerate(channels):
            averages[:, channel] = array("d", values)
        if set(map(len, blobs)) != {POSITION_BYTES}:
            return False
        positions[:] = np.frombuffer(b"".join(blobs), "<i2").reshape(positions.shape)
    except TypeError:
        return False
    return (
        positions_are_valid(positions)
        and bool(np.abs(averages).max() <= columns.LARGEST_USUAL_AVERAGE)
        and bool(post_ids.min() >= 0)
    )
