"""A feed row for each image of an IQDB file, without a Python object for any.

SQLite itself copies ids and computes digests; only the positions come out, as one value for thousands of
images, to be looked at. A group with anything unusual in it is left to `takeover`, which looks at each row.
Called by `sqlite`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.model import POSITION_BYTES
from iqdb_core.store import columns

if TYPE_CHECKING:
    import sqlite3

GROUP: Final = 16_384
# Comparisons are cheaper than functions: text is above every number, a blob above every text.
_USUAL: Final = " AND ".join(
    [
        "post_id >= 0 AND post_id = CAST(post_id AS INTEGER)",
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
    " FROM images WHERE id > ? AND id <= ? ORDER BY id"
)


def fill_feed(driver: sqlite3.Connection, after: int) -> tuple[int, int] | None:
    """Append feed rows for the next group of images, to a feed that knows none of them.

    Parameters
    ----------
    driver : sqlite3.Connection
        In a write transaction.
    after : int
        The row id after which to go on.

    Returns
    -------
    (int, int) or None
        The last row id of the group and the number of its images, 0 at the end of the table. None if not
        every row of the group is an ordinary signature; nothing was written for it then.
    """
    last, count = _group(driver, after)
    if count == 0:
        return after, 0
    usual, positions = driver.execute(_POSITIONS, (after, last)).fetchone()
    if usual != count or len(positions) != count * POSITION_BYTES:
        return None
    if not columns.positions_are_valid(np.frombuffer(positions, "<i2")):
        return None
    driver.execute(_FILL, (after, last))
    return last, count


def _group(driver: sqlite3.Connection, after: int) -> tuple[int, int]:
    """Return the last row id of the next group, and how many rows it has."""
    end = driver.execute(_GROUP_END, (after, GROUP - 1)).fetchone()
    if end is not None:
        return end[0], GROUP
    last, count = driver.execute(_REST, (after,)).fetchone()
    return last, count


def is_possible(driver: sqlite3.Connection) -> bool:
    """Tell whether blobs may be joined as text, which leaves their bytes alone in UTF-8 only."""
    (encoding,) = driver.execute("PRAGMA encoding").fetchone()
    return bool(encoding == "UTF-8")
