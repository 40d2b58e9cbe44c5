"""What did other programs do to `images` while we were away? Brings the feed in step with the table.

For a file of IQDB that we see for the first time that is everything; later it is what IQDB added, replaced
or removed in between. Rows that are no signature stay where they are and are reported once. Changes nothing
in `images`. Called inside one transaction, when a database is opened and when another file is put in its
place.

IQDB never updates a row: it deletes it and inserts another, whose id is the one after the largest. So a row
is replaced under its own id only where all rows behind it were deleted as well, and of the newest rows the
feed knows all of their content. One thing may go unnoticed: a row before the newest thousand was replaced
under its own id, and all its successors were put back as they were. It is found when something makes the
whole table be compared. Only where the row was taken over at first sight, and has the same averages as before
(as a mirrored picture has), it is never found.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa

from iqdb_core.store import first_takeover, lineage, sources
from iqdb_core.store.backend import (
    BEFORE_ALL,
    BROKEN,
    LIVE,
    TOMBSTONE,
    Counter,
    FeedRow,
    image_columns,
    known_of,
)
from iqdb_core.store.columns import average_digests, digests, stack_checked
from iqdb_core.store.row_states import is_image_id, report_broken, report_no_id, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from iqdb_core.store.backend import Backend, ComparedRow
    from iqdb_core.store.receiver import Receiver

_ANY_FEED: Final = sa.text("SELECT seq FROM iqdb_feed LIMIT 1")
_COUNT: Final = sa.text("SELECT count(*) FROM images")
_NEWEST_BY_AVERAGES: Final = sa.text(
    "SELECT 1 FROM (SELECT post_id FROM images ORDER BY id DESC LIMIT :tail) AS i"
    " JOIN iqdb_feed AS f ON f.post_id = i.post_id WHERE f.digest < 0 LIMIT 1"
)
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


def knows_newest(connection: sa.Connection) -> bool:
    """Tell whether the feed knows the newest rows of `images` by more than their averages.

    It does not where they were taken over by an earlier version, or have become the newest since, because
    those behind them were deleted.
    """
    return connection.execute(_NEWEST_BY_AVERAGES, {"tail": _TAIL}).first() is None


def tell_newest_again(backend: Backend, connection: sa.Connection) -> None:
    """Write a feed row with a whole digest for each of the newest rows that is known by its averages only.

    Each gets a new seq: IQDB may have replaced the picture by the same one turned, and whoever follows the
    feed may hold the old one.

    Parameters
    ----------
    backend : Backend
    connection : sqlalchemy.Connection
        Of a write transaction, in which `is_in_step`.
    """
    before = backend.counter(connection)
    feed = _Feed(before)
    feed.put_newest_again(backend, connection)
    if feed.seq == before.head_seq:
        return
    lineage.mark(connection, before.head_seq, feed.seq)
    counter = before._replace(head_seq=feed.seq, live_count=feed.live, max_revision=feed.revision)
    backend.set_counter(connection, counter)


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
        that a write accepted later still wins and a redelivered older one does not. What is only told again
        is not counted.
    """
    before = backend.counter(connection)
    is_first = before.head_seq == 0 and connection.execute(_ANY_FEED).first() is None
    if is_first and (rows := connection.execute(_COUNT).scalar_one()):
        taken = first_takeover.take_over(backend, connection, rows, progress, receiver)
        if taken is not None:
            changes, live, mix = taken
            found = _newest_by_averages(backend, connection)
            backend.put_feed(connection, [known._replace(digest=digest) for *_, digest, known in found])
            backend.set_counter(connection, Counter(changes, live, before.max_revision, rows, mix))
            return changes
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
    changes = feed.seq - before.head_seq
    feed.put_newest_again(backend, connection)
    lineage.mark(connection, before.head_seq, feed.seq)
    backend.set_counter(connection, Counter(feed.seq, feed.live, feed.revision, rows, mix))
    return changes


def _compared(backend: Backend, connection: sa.Connection, feed: _Feed) -> Generator[int]:
    """Look at every row beside what the feed knows of it; yields numbers of rows."""
    after = BEFORE_ALL
    while compared := backend.compared_rows(connection, after, _BATCH):
        backend.put_feed(connection, feed.follow_unknown(compared) or feed.follow_known(compared))
        after = compared[-1][0]
        yield len(compared)


def _newest_by_averages(
    backend: Backend, connection: sa.Connection
) -> list[tuple[int, int, int, int, FeedRow]]:
    """Return those of the newest rows that the feed knows by their averages only, by ascending id.

    Returns
    -------
    list of (post_id, state, row_id, digest, FeedRow)
        As `differences` has them, though they may be none.
    """
    newest = backend.compared_rows(connection, _BEHIND_ALL, _TAIL, newest_first=True)
    compared = [row for row in reversed(newest) if _is_known_by_averages(row)]
    if not compared:
        return []
    states = states_of(image_columns(compared))
    return [
        (row[1], state, row[0], digest, FeedRow(*row[6:]))
        for row, (state, digest) in zip(compared, states, strict=True)
    ]


def _is_known_by_averages(row: ComparedRow) -> bool:
    """Tell whether all that the feed knows of a row's content is what a first takeover wrote of it."""
    digest = row[-1]
    return digest is not None and digest < 0


class _Feed:
    """The counter row while changes are appended."""

    def __init__(self, before: Counter) -> None:
        self.seq = before.head_seq
        self.live = before.live_count
        self.revision = before.max_revision

    def follow_unknown(self, compared: Sequence[ComparedRow]) -> list[tuple[int, ...]]:
        """Return the next rows of the feed for signatures new to it; none if one row is anything else.

        What a first takeover on Postgres consists of, without a Python object for each row.
        """
        row_ids, post_ids, *columns, seqs, _, _, _, _, _ = zip(*compared, strict=True)
        stacked = stack_checked(columns)
        are_ids = set(map(type, post_ids)) == {int} and min(post_ids) >= 0
        if stacked is None or set(seqs) != {None} or not are_ids:
            return []
        first, n = self.seq + 1, len(compared)
        self.seq += n
        self.live += n
        new = range(first, first + n), post_ids, repeat(0, n), repeat(LIVE, n), row_ids, digests(*stacked)
        return list(zip(*new, strict=True))

    def follow_known(self, compared: Sequence[ComparedRow]) -> list[FeedRow]:
        """Return the next rows of the feed for what it does not know as it is."""
        return [self.follow(*found) for found in differences(compared)]

    def put_newest_again(self, backend: Backend, connection: sa.Connection) -> None:
        """Append the newest rows that the feed knows by their averages only."""
        backend.put_feed(
            connection, [self.follow(*found) for found in _newest_by_averages(backend, connection)]
        )

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


_Difference = tuple[int, int, int, int, FeedRow | None]
"""post_id, its state, its row's id and digest now, and what the feed knows."""


def differences(compared: Sequence[ComparedRow]) -> Iterator[_Difference]:
    """Yield what the feed must be told about rows of `images`, and log those that are none."""
    if not compared:
        return
    states = states_of(image_columns(compared))
    at_takeover = _average_digests(compared, [state for state, _ in states])
    for row, (state, digest), other in zip(compared, states, at_takeover, strict=True):
        row_id, post_id, known = row[0], row[1], known_of(row)
        if (
            known is not None
            and (known.row_id, known.state) == (row_id, state)
            and known.digest in (digest, other)
        ):
            continue
        if not is_image_id(post_id):
            report_no_id(row_id, post_id)
            continue
        if state == BROKEN:
            report_broken(row_id, post_id)
        yield post_id, state, row_id, digest, known


def _average_digests(compared: Sequence[ComparedRow], states: Sequence[int]) -> list[int | None]:
    """Return the digests that a first takeover would have written, where it may have written the feed's."""
    found: list[int | None] = [None] * len(compared)
    asked = [
        number
        for number, (row, state) in enumerate(zip(compared, states, strict=True))
        if state == LIVE and _is_known_by_averages(row)
    ]
    if asked:
        averages = np.array([compared[number][2:5] for number in asked], np.float64)
        for number, digest in zip(asked, average_digests(averages), strict=True):
            found[number] = digest
    return found


def unreadable(compared: Sequence[ComparedRow]) -> Iterator[ComparedRow]:
    """Yield rows of `images` that are no signature, or whose post has no image id."""
    if not compared:
        return
    states = states_of(image_columns(compared))
    for row, (state, _) in zip(compared, states, strict=True):
        if state == BROKEN or not is_image_id(row[1]):
            yield row
