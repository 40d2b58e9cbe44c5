"""How does IQDB's table become a feed? Gives every row of `images` a feed row, inside the caller's transaction.

Rows that are no signatures stay where they are and are reported once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from iqdb_core.model import MAX_IMAGE_ID
from iqdb_core.store.backend import Counter, FeedRow, FeedState, row_digest
from iqdb_core.store.columns import is_signature
from iqdb_core.store.sqlite import PAIR_MIX, _driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

    from iqdb_core.store.sqlite import SqliteBackend

_log = logging.getLogger(__name__)
_BATCH: Final = 16_384


def take_over(
    backend: SqliteBackend, connection: sa.Connection, progress: Callable[[int, int], None] | None
) -> None:
    driver = _driver(connection)
    total, mix = driver.execute(f"SELECT count(*), coalesce(sum({PAIR_MIX}), 0) FROM images").fetchone()
    seq = live = done = last = 0
    last = -(2**63)
    while rows := driver.execute(
        "SELECT id, post_id, avglf1, avglf2, avglf3, sig FROM images WHERE id > ? ORDER BY id LIMIT ?",
        (last, _BATCH),
    ).fetchall():
        feed = []
        for row in rows:
            seq += 1
            ok = is_signature(row[2:])
            live += ok
            feed.append(
                FeedRow(
                    seq,
                    row[1],
                    0,
                    FeedState.LIVE if ok else FeedState.BROKEN,
                    row[0],
                    row_digest(row[2:5], row[5]) if ok else 0,
                )
            )
        backend.put_feed(connection, feed)
        last = rows[-1][0]
        done += len(rows)
        if progress:
            progress(done, total)
    backend.set_counter(connection, Counter(seq, live, 0, total, mix))
