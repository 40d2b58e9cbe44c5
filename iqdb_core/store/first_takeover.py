"""How does a file of IQDB become a feed at first sight? Without a Python object for each image.

One thread reads `images` ahead and looks whether its rows are ordinary signatures; another lets the database
write the feed rows of those that are; and a receiver gets what was read. What is unusual is looked at row by
row. Changes nothing in `images`. Called by `takeover`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.model import ChangeBatch, FeedState
from iqdb_core.store import lineage
from iqdb_core.store.backend import BROKEN, Counter, FeedRow
from iqdb_core.store.row_states import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    import sqlalchemy as sa

    from iqdb_core.model import Mark
    from iqdb_core.store.backend import Backend, Contents, Look
    from iqdb_core.store.receiver import Receiver

_BATCH: Final = 8192


def take_over(
    backend: Backend,
    connection: sa.Connection,
    rows: int,
    progress: Callable[[int, int], None] | None,
    receiver: Receiver | None,
) -> Counter | None:
    """Fill a feed that knows nothing yet, lineage included; None if the database cannot do so.

    Parameters
    ----------
    backend : Backend
    connection : sqlalchemy.Connection
        Of a write transaction.
    rows : int
        Rows of `images`.
    progress : callable of (done, total), optional
        In rows of `images`.
    receiver : Receiver, optional

    Returns
    -------
    Counter or None
        What the counter row must be now, with the newest revision of a feed that knew nothing, 0.
    """
    if receiver is not None and not receiver.begin(backend.store_id(connection), rows):
        receiver = None
    found = backend.first_pass(connection)
    if found is None:
        return None
    with closing(found.looks), ThreadPoolExecutor(2, thread_name_prefix="takeover") as threads:
        counting = threads.submit(backend.fingerprint, connection)
        takeover = _Takeover(
            backend, connection, lambda contents: threads.submit(found.fill, contents), receiver
        )
        if receiver is not None:
            receiver.get_ready()
        image_rows, image_mix = counting.result()
        done = 0
        for look in _ahead(threads, found.looks):
            takeover.follow(look)
            done += look.n_rows
            if progress is not None:
                progress(done, rows)
        takeover.wait()
        return Counter(takeover.cursor, takeover.live, 0, image_rows, image_mix)


def _ahead(threads: ThreadPoolExecutor, looks: Generator[Look]) -> Generator[Look]:
    """Yield looks, and take the next one in the background."""
    looking = threads.submit(next, looks, None)
    while (look := looking.result()) is not None:
        looking = threads.submit(next, looks, None)
        yield look


class _Takeover:
    """How far it is, in the order of the feed."""

    def __init__(
        self,
        backend: Backend,
        connection: sa.Connection,
        fill: Callable[[Contents], Future[None]],
        receiver: Receiver | None,
    ) -> None:
        self._backend = backend
        self._connection = connection
        self._fill = fill
        self._filling: Future[Any] | None = None
        self._receiver = receiver
        self._marks: list[Mark | None] = []
        self.cursor = 0
        self.live = 0

    def follow(self, look: Look) -> None:
        """Append the next rows to the feed, and hand them on."""
        self.wait()
        if look.contents is None:
            n_changes = self._follow_one_by_one(look)
        else:
            n_changes = look.n_rows
            self._mark(n_changes)
            self._filling = self._fill(look.contents)
            self.live += n_changes
        if n_changes and self._receiver is not None:
            self._receiver.take(self._changes(look.contents, n_changes))
        self.cursor += n_changes

    def wait(self) -> None:
        """Return when the database has written its feed rows; until then the connection is in use."""
        if self._filling is not None:
            self._filling.result()
            self._filling = None

    def _mark(self, n_changes: int) -> None:
        if n_changes and not self._marks:
            lineage.mark(self._connection, 0, n_changes)
            # There are no more: the takeover is one transaction.
            self._marks = [self._backend.marks(self._connection, seq)[1] for seq in (0, 1)]

    def _follow_one_by_one(self, look: Look) -> int:
        """Look at each row by itself; returns how many of them are in the feed now."""
        found: list[FeedRow] = []
        after = look.after
        for start in range(0, look.n_rows, _BATCH):
            compared = self._backend.compared_rows(self._connection, after, min(_BATCH, look.n_rows - start))
            for post_id, state, row_id, digest, _ in differences(compared):
                found.append(FeedRow(self.cursor + len(found) + 1, post_id, 0, state, row_id, digest))
            after = compared[-1][0]
        self._mark(len(found))
        self._backend.put_feed(self._connection, found)
        self.live += sum(row.state != BROKEN for row in found)
        return len(found)

    def _changes(self, contents: Contents | None, n_changes: int) -> ChangeBatch:
        """Return the next changes of the feed."""
        cursor, last = self.cursor, self.cursor + n_changes
        if contents is None:
            batch = self._backend.changes(self._connection, cursor, n_changes)
        else:
            seqs, is_live = np.arange(cursor + 1, last + 1), np.ones(n_changes, np.bool_)
            batch = ChangeBatch(seqs, contents.post_ids, is_live, contents.averages, contents.positions)
        return replace(batch, feed=FeedState(last, self._marks[min(cursor, 1)], self._marks[1]))
