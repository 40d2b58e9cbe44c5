"""Does the store agree with itself? Looks at every row, and mends what can be mended.

The table of images is the truth: the feed and the counter are brought in step with it, never the other way.
Called by `SignatureStore`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from iqdb_core.store import takeover
from iqdb_core.store.backend import BEFORE_ALL, BROKEN, Counter, FeedRow
from iqdb_core.store.row_states import differences, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.store.backend import Backend

MAX_FINDINGS: Final = 1000
_BATCH: Final = 4096
_FEED_TOTALS: Final = sa.text(
    "SELECT coalesce(max(seq), 0), coalesce(sum(CASE WHEN state = 1 THEN 1 ELSE 0 END), 0),"
    " coalesce(max(revision), 0) FROM iqdb_feed"
)
_LOST_SOURCES: Final = (
    "FROM iqdb_sources WHERE NOT EXISTS"
    " (SELECT 1 FROM iqdb_feed AS f WHERE f.post_id = iqdb_sources.post_id AND f.state = 1)"
)
_MARKS_AHEAD: Final = "FROM iqdb_lineage WHERE seq > (SELECT head_seq FROM iqdb_store)"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Parameters
    ----------
    kind : str
        "file", "counter", "image", "feed", "source" or "lineage": where.
    message : str
        For people.
    image_id : int or None
        Whose row it is about.
    """

    kind: str
    message: str
    image_id: int | None = None


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    Parameters
    ----------
    images : int
        Rows of images that were looked at.
    found : int
        How many things are not as they should be.
    findings : list of Finding
        The first thousand of them.
    repaired : int
        How many of those found are mended: what a second look, in the transaction of the repair, finds no
        more. Rows of images that are no signatures stay, and with them their findings.
    """

    images: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: int = 0

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there are not too many."""
        self.found += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


def check(
    backend: Backend, *, repair: bool = False, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Check the store, and mend it if told to; see `SignatureStore.check`."""
    report = CheckReport()
    with backend.snapshot() as connection:
        for trouble in backend.damage(connection):
            report.add(Finding("file", f"the database file is damaged: {trouble}"))
    if report.found:
        return report  # nothing that is read from such a file can be believed, and nothing written to it
    with backend.repairing() if repair else backend.snapshot() as connection:
        _look(backend, connection, report, progress)
        if repair and report.found:
            _mend(backend, connection)
            left = CheckReport()
            _look(backend, connection, left, progress)
            report.repaired = max(report.found - left.found, 0)
    return report


def _look(
    backend: Backend,
    connection: sa.Connection,
    report: CheckReport,
    progress: Callable[[int, int], None] | None,
) -> None:
    _check_counter(backend, connection, report)
    _check_images(backend, connection, report, progress)
    _check_vanished(backend, connection, report)
    _check_rest(connection, report)


def _check_counter(backend: Backend, connection: sa.Connection, report: CheckReport) -> None:
    counter, right = backend.counter(connection), _right_counter(backend, connection)
    for name, found, expected in (
        ("newest seq", counter.head_seq, max(counter.head_seq, right.head_seq)),
        ("newest revision", counter.max_revision, max(counter.max_revision, right.max_revision)),
        ("number of live images", counter.live_count, right.live_count),
    ):
        if found != expected:
            report.add(Finding("counter", f"its {name} is {found}, but the feed says {expected}"))


def _right_counter(backend: Backend, connection: sa.Connection) -> Counter:
    head, live, revision = connection.execute(_FEED_TOTALS).one()
    counter = backend.counter(connection)
    return counter._replace(head_seq=int(head), live_count=int(live), max_revision=int(revision))


def _check_images(
    backend: Backend,
    connection: sa.Connection,
    report: CheckReport,
    progress: Callable[[int, int], None] | None,
) -> None:
    total, after = backend.fingerprint(connection)[0], BEFORE_ALL
    while rows := backend.compared_rows(connection, after, _BATCH):
        after = rows[-1][0]
        for row in unreadable(rows):
            post_id = row[1] if isinstance(row[1], int) else None
            report.add(Finding("image", f"row {row[0]} of images (post {row[1]}) is no signature", post_id))
        for post_id, state, _, _, known in differences(rows):
            if known is None:
                report.add(Finding("feed", f"image {post_id} is not in the feed", post_id))
            elif state != BROKEN:
                report.add(Finding("feed", f"image {post_id} is not as the feed knows it", post_id))
        report.images += len(rows)
        if progress is not None:
            progress(report.images, max(report.images, total))


def _check_vanished(backend: Backend, connection: sa.Connection, report: CheckReport) -> None:
    after = -1
    while gone := backend.vanished(connection, after, _BATCH):
        after = gone[-1].post_id
        for row in gone:
            report.add(_vanished(row))


def _vanished(row: FeedRow) -> Finding:
    return Finding("feed", f"image {row.post_id} is in the feed, but not among the images", row.post_id)


def _check_rest(connection: sa.Connection, report: CheckReport) -> None:
    for (post_id,) in connection.execute(sa.text(f"SELECT post_id {_LOST_SOURCES}")):
        report.add(Finding("source", f"a source is kept of image {post_id}, which is not there", post_id))
    for (seq,) in connection.execute(sa.text(f"SELECT seq {_MARKS_AHEAD}")):
        report.add(Finding("lineage", f"a mark stands at seq {seq}, which was not given out yet"))


def _mend(backend: Backend, connection: sa.Connection) -> None:
    """Bring feed and counter in step with the images, and drop what belongs to none.

    What changes of images is added to the feed, where followers see it like any other change.
    """
    counter, right = backend.counter(connection), _right_counter(backend, connection)
    mended = counter._replace(
        head_seq=max(counter.head_seq, right.head_seq),
        max_revision=max(counter.max_revision, right.max_revision),
        live_count=right.live_count,
    )
    backend.set_counter(connection, mended)
    connection.execute(sa.text(f"DELETE {_MARKS_AHEAD}"))
    takeover.bring_in_step(backend, connection, None)
    connection.execute(sa.text(f"DELETE {_LOST_SOURCES}"))
