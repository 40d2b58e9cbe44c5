"""A feed row for each image of an IQDB file, and a look at each, without a Python object for any.

SQLite itself copies ids and computes digests, of averages only: `takeover` gives the newest rows whole ones.
To be looked at only the positions come out, as one value for thousands of images. What is unusual is left to
`first_takeover`. Called by `sqlite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.codec import positions_are_valid
from iqdb_core.model import POSITION_BYTES
from iqdb_core.store import columns
from iqdb_core.store.backend import BEFORE_ALL, Look

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

GROUP: Final = 16_384
FILLED_AT_ONCE: Final = 131_072
"""A tenth of a second, in which SQLite has no need of Python, where other threads may be busy."""
# Comparisons are cheaper than functions: text is above every number, a blob above every text.
_IS_IMAGE_ID: Final = "post_id >= 0 AND post_id = CAST(post_id AS INTEGER)"
_USUAL: Final = " AND ".join(
    [
        _IS_IMAGE_ID,
        f"sig >= x'' AND length(sig) = {POSITION_BYTES}",
        *(
            f"{name} BETWEEN -{columns.LARGEST_USUAL_AVERAGE} AND {columns.LARGEST_USUAL_AVERAGE}"
            for name in ("avglf1", "avglf2", "avglf3")
        ),
    ]
)
_GROUP_END: Final = "SELECT id FROM images WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
_REST: Final = "SELECT max(id), count(*) FROM images WHERE id > ?"
_POSITIONS: Final = (
    "SELECT count(*), CAST(group_concat(sig, '') AS BLOB) FROM images"  # noqa: S608 - ours
    f" WHERE id > ? AND id <= ? AND {_USUAL}"
)
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


def look(reader: sqlite3.Connection) -> Generator[Look]:
    """Look at all images, in groups by ascending id."""
    after = BEFORE_ALL
    while True:
        end = reader.execute(_GROUP_END, (after, GROUP - 1)).fetchone()
        last, count = (end[0], GROUP) if end is not None else reader.execute(_REST, (after,)).fetchone()
        if count == 0:
            return
        usual, positions = reader.execute(_POSITIONS, (after, last)).fetchone()
        is_usual = (
            usual == count
            and len(positions) == count * POSITION_BYTES
            and positions_are_valid(np.frombuffer(positions, "<i2"))
        )
        yield Look(count, unusual_after=None if is_usual else after)
        after = last


def is_possible(driver: sqlite3.Connection) -> bool:
    """Tell whether blobs may be joined as text, which leaves their bytes alone in UTF-8 only."""
    (encoding,) = driver.execute("PRAGMA encoding").fetchone()
    return bool(encoding == "UTF-8")
