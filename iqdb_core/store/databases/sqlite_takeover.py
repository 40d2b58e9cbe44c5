"""The two halves of a first takeover: one cursor reads all images, and SQLite writes a feed row for each.

The reader makes columns of the rows and looks whether each is an ordinary signature. Their feed rows are
written by one statement for a whole group, which takes everything but the digests from `images` itself. What
is unusual is left to `first_takeover`. Called by `sqlite`.
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
_SPREAD: Final = 16
"""Row ids that a group may span, for each of its rows; files of IQDB have gaps only where it deleted."""
_ROWS: Final = "SELECT id, post_id, avglf1, avglf2, avglf3, sig FROM images ORDER BY id"
# A digest per row id, as ten decimal digits in five bytes: binding one by one would take three times as long.
_FILL: Final = (
    "INSERT INTO iqdb_feed (seq, post_id, revision, state, row_id, digest)"
    " SELECT NULL, post_id, 0, 1, id, CAST(hex(substr(?1, 5 * (id - ?2) + 1, 5)) AS INTEGER)"
    " FROM images WHERE id BETWEEN ?2 AND ?3 ORDER BY id"
)
_DIGIT_PAIRS: Final = np.array([16 * (pair // 10) + pair % 10 for pair in range(100)], np.uint8)


def fill(writer: sqlite3.Connection, contents: Contents) -> None:
    """Append feed rows for consecutive images to a feed that knows none of them.

    Parameters
    ----------
    writer : sqlite3.Connection
        In a write transaction, so that nobody else changes the images. Lets go of Python while it works.
    contents : Contents
        As `read` has found them.
    """
    first, last = int(contents.row_ids[0]), int(contents.row_ids[-1])
    digests = columns.digest_array(contents.averages, contents.positions)
    digits = np.zeros((last - first + 1, 5), np.uint8)
    for pair in range(4, -1, -1):
        digests, rest = np.divmod(digests, np.uint64(100))
        digits[contents.row_ids - first, pair] = _DIGIT_PAIRS[rest]
    writer.execute(_FILL, (digits.tobytes(), first, last))


def read(reader: sqlite3.Connection) -> Generator[Look]:
    """Yield all images, in groups by ascending row id.

    A group with anything in it that is no ordinary signature comes without contents: whoever looks at it row
    by row will see what there is.
    """
    rows = reader.execute(_ROWS)
    after = BEFORE_ALL
    while True:
        row_ids, post_ids = np.empty((2, GROUP), np.int64)
        averages = np.empty((GROUP, CHANNELS))
        positions = np.empty((GROUP, CHANNELS, KEPT), np.int16)
        n, is_usual = 0, True
        while n < GROUP and (some := rows.fetchmany(min(ROWS_PER_FETCH, GROUP - n))):
            part = slice(n, n + len(some))
            ids, *others = zip(*some, strict=True)
            row_ids[part] = array("q", ids)
            is_usual = is_usual and _put(others, post_ids[part], averages[part], positions[part])
            n += len(some)
        if n == 0:
            return
        last = int(row_ids[n - 1])
        is_usual = is_usual and last - int(row_ids[0]) < _SPREAD * GROUP
        contents = Contents(row_ids[:n], post_ids[:n], averages[:n], positions[:n])
        yield Look(n, after, contents if is_usual else None)
        after = last


def _put(
    values: Sequence[tuple[Any, ...]],
    post_ids: NDArray[np.int64],
    averages: NDArray[np.float64],
    positions: NDArray[np.int16],
) -> bool:
    """Put columns of rows into arrays, and return whether each row is an ordinary signature."""
    ids, *channels, blobs = values
    try:
        # An array of numbers takes nothing else: no text that could be read as one, and no fraction as an id.
        post_ids[:] = array("q", ids)
        for channel, numbers in enumerate(channels):
            averages[:, channel] = array("d", numbers)
        if set(map(len, blobs)) != {POSITION_BYTES}:
            return False
        positions[:] = np.frombuffer(b"".join(blobs), "<i2").reshape(positions.shape)
    except TypeError:
        return False
    return positions_are_valid(positions) and bool(np.isfinite(averages).all()) and bool(post_ids.min() >= 0)
