"""What did other programs do to `images` while we were away? Brings the feed in step with the table.

For a file of IQDB that we see for the first time that is everything; later it is what IQDB added, replaced
or removed in between. Rows that are no signature stay where they are and are reported once. Changes nothing
in `images`. Called inside one transaction, when a database is opened and when another file is put in its
place.

IQDB never updates a row: it deletes it and inserts another, whose id is the one after the largest. So a row
is replaced under its own id only where all rows behind it were deleted as well, and of the newest rows the
contents are compared. One thing may go unnoticed: a row before the newest thousand was replaced under its
own id, and all its successors were put back as they were. It is found when something makes the whole table be
compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from iqdb_core.store import first_takeover, lineage, sources
from iqdb_core.store.backend import BEFORE_ALL, LIVE, TOMBSTONE, Counter, FeedRow
from iqdb_core.store.row_states import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from iqdb_core.store.backend import Backend
    from iqdb_core.store.receiver import Receiver

_ANY_FEED: Final = sa.text("SELECT seq FROM iqdb_feed LIMIT 1")
_COUNT: Final = sa.text("SELECT count(*) FROM images")
_BATCH: Final = 8192
_TAIL: Final = 1000
_BEHIND_ALL: Final = 2**63 - 1


def is_in_step(backend: Backend, connection: sa.Connection) -> bool:
    """Tell cheaply whether `images` is as the store left it, as far as the feed knows that.

    Compares which post has which row (a scan of one index), and the contents of the newest rows: IQDB gives
    a row the id after the largest, so only there can a row have been replaced by one with the same id.
    """
    counter = backend.counter(connection)
    if backend.fingerprint(connection) != (counter.image_rows, counter.image_mix):
        return False
    newest = backend.compared_rows(connection, _BEHIND_ALL, _TAIL, newest_first=True)
    return not any(differences(newest))


def bring_in_step(
    backend: Backend,
    connection: sa.Connection,
    progress: Callable[[int, int], None] | None,
    receiver: Receiver | None = None,
) -> int:
    """Write a feed row for each row of `images` that the feed does not know as it is, or that is gone.

    Parameters
    ----------
    backend : Backend
    connection : sqlalchemy.Connection
        Of a write transaction.
    progress : callable of (done, total), optional
        In rows of `images`.
    receiver : Receiver, optional
        Gets the changes as well, if the feed knows nothing yet.

    Returns
    -------
    int
        Changes by other programs. They carry the revision after the one they replace (0 for a new image), so
        that a write accepted later still wins and a redelivered older one does not.
    """
    before = backend.counter(connection)
    is_first = before.head_seq == 0 and connection.execute(_ANY_FEED).first() is None
    if is_first and (rows := connection.execute(_COUNT).scalar_one()):
        taken = first_takeover.take_over(backend, connection, rows, progress, receiver)
        if taken is not None:
            backend.set_counter(connection, taken._replace(max_revision=before.max_revision))
            return taken.head_seq
    rows, mix = backend.fingerprint(connection)
    feed = _Feed(before)
    done = 0
    for count in _compared(backend, connection, feed):
        done += count
        if progress is not None:
            progress(done, rows)
    after = -1
    while not is_first and (gone := backend.vanished(connection, after, _BATCH)):
        backend.put_feed(connection, [feed.follow(row.post_id, TOMBSTONE, None, 0, row) for row in gone])
        sources.remove(connection, [row.post_id for row in gone])
        after = gone[-1].post_id
    lineage.mark(connection, before.head_seq, feed.seq)
    backend.set_counter(connection, Counter(feed.seq, feed.live, feed.revision, rows, mix))
    return feed.seq - before.head_seq


def _compared(backend: Backend, connection: sa.Connection, feed: _Feed) -> Generator[int]:
    """Look at every row beside what the feed knows of it; yields numbers of rows."""
    after = BEFORE_ALL
    while compared := backend.compared_rows(connection, after, _BATCH):
        backend.put_feed(connection, [feed.follow(*found) for found in differences(compared)])
        after = compared[-1][0]
        yield len(compared)


class _Feed:
    """The counter row while changes are appended."""

    def __init__(self, before: Counter) -> None:
        self.seq = before.head_seq
        self.live = before.live_count
        self.revision = before.max_revision

    def follow(
        self, post_id: int, state: int, row_id: int | None, digest: int, known: FeedRow | None
    ) -> FeedRow:
        """Return the next row of the feed."""
        self.seq += 1
        self.live += state == LIVE
        revision = 0
        if known is not None:
            self.live -= known.state == LIVE
            revision = known.revision + 1
            self.revision = max(self.revision, revision)
        return FeedRow(self.seq, post_id, revision, state, row_id, digest)
