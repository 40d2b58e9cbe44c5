"""The two halves of a first takeover: SQLite writes a feed row for each image, and a reader gets its content.

SQLite itself copies ids and computes digests, of averages only: `takeover` gives the newest rows whole ones.
Meanwhile one cursor reads the whole table once, into columns, and looks whether each row is an ordinary
signature. What is unusual is left to `first_takeover`. Called by `sqlite`.
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

FILLED_AT_ONCE: Final = 131_072
"""A tenth of a second, in which SQLite has no need of Python, where other threads may be busy."""
GROUP: Final = 65_536
"""Images handed on at once."""
ROWS_PER_FETCH: Final = 512
"""So many rows' objects stay in the processor's cache until they have become columns, and are too few to set
off the garbage collector, which would look through them in vain."""
_IS_IMAGE_ID: Final = "post_id >= 0 AND post_id = CAST(post_id AS INTEGER)"
# columns.average_digests in SQL.
_SCALED: Final = f"(CAST({{}} * {columns.AVERAGE_SCALE} AS INTEGER) & {columns.AVERAGE_MASK}) * {{}}"
_DIGEST: Final = " + ".join(
    _SCALED.format(f"avglf{number + 1}", weight) for number, weight in enumerate(columns.AVERAGE_WEIGHTS)
)
_FILL: Final = (
    "INSERT INTO iqdb_feed (seq, post_id, revision, state, row_id, digest)"  # noqa: S608 - ours
    f" SELECT NULL, post_id, 0, 1, id, -1 - (({_DIGEST}) & {columns.AVERAGE_DIGEST_MASK})"
    f" FROM images WHERE id > ? AND {_IS_IMAGE_ID} ORDER BY id LIMIT ?"
)
_LAST_FILLED: Final = "SELECT row_id FROM iqdb_feed ORDER BY seq DESC LIMIT 1"
_ROWS: Final = "SELECT post_id, avglf1, avglf2, avglf3, sig FROM images WHERE id > ? ORDER BY id"
_LATER: Final = "SELECT id FROM images WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"


def fill(writer: sqlite3.Connection) -> Generator[int]:
    """Append feed rows for all images, to a feed that knows none of them; yields how many.

    Parameters
    ----------
    writer : sqlite3.Connection
        In a write transaction, so that nobody else changes the images. Lets go of Python while it works.
    """
    after = BEFORE_ALL
    while (count := writer.execute(_FILL, (after, FILLED_AT_ONCE)).rowcount) > 0:
        yield count
        (after,) = writer.execute(_LAST_FILLED).fetchone()


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
