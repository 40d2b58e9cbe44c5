"""A feed row for each image of an IQDB file, without a Python object for any.

SQLite itself copies ids and computes digests; only the positions come out, as one value for thousands of
images, to be looked at. A group with anything unusual in it is left to `takeover`, which looks at each row.
Called by `sqlite`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.model import POSITION_BYTES
from iqdb_core.store import columns
from iqdb_core.store.backend import NewGroup

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

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


class _Look(NamedTuple):
    """A group of rows, and whether each of them is an ordinary signature."""

    after: int
    last: int
    n_rows: int
    is_usual: bool


def filled_groups(writer: sqlite3.Connection, reader: sqlite3.Connection) -> Generator[NewGroup]:
    """Append feed rows for all images, to a feed that knows none of them, and say how far that is.

    While one connection writes, the other looks at the next group: SQLite lets go of Python meanwhile.

    Parameters
    ----------
    writer : sqlite3.Connection
        In a write transaction, so that nobody else changes the images.
    reader : sqlite3.Connection

    Yields
    ------
    NewGroup
        One that is not filled has to be put into the feed by the caller before the next is asked for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="takeover") as ahead:
        looking = ahead.submit(_look, reader, -(2**63))
        while (group := looking.result()).n_rows:
            looking = ahead.submit(_look, reader, group.last)
            if group.is_usual:
                writer.execute(_FILL, (group.after, group.last))
            yield NewGroup(group.after, group.n_rows, is_filled=group.is_usual)


def _look(reader: sqlite3.Connection, after: int) -> _Look:
    end = reader.execute(_GROUP_END, (after, GROUP - 1)).fetchone()
    last, count = (end[0], GROUP) if end is not None else reader.execute(_REST, (after,)).fetchone()
    if count == 0:
        return _Look(after, after, 0, is_usual=False)
    usual, positions = reader.execute(_POSITIONS, (after, last)).fetchone()
    is_usual = (
        usual == count
        and len(positions) == count * POSITION_BYTES
        and columns.positions_are_valid(np.frombuffer(positions, "<i2"))
    )
    return _Look(after, last, count, is_usual)


def is_possible(driver: sqlite3.Connection) -> bool:
    """Tell whether blobs may be joined as text, which leaves their bytes alone in UTF-8 only."""
    (encoding,) = driver.execute("PRAGMA encoding").fetchone()
    return bool(encoding == "UTF-8")
