"""How does a file of IQDB become a feed at first sight? Without a Python object for each image.

In one thread the database itself writes a feed row for each row of `images`, as if it were an ordinary
signature; in another it looks whether it is, and a receiver gets what was read for that. What turns out to be
unusual is then looked at row by row, and its feed rows put right. Changes nothing in `images`. Called by
`takeover`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from iqdb_core.model import ChangeBatch, FeedState
from iqdb_core.store import lineage
from iqdb_core.store.backend import BROKEN, FeedRow, image_columns
from iqdb_core.store.row_states import is_image_id, report_broken, report_no_id, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import sqlalchemy as sa

    from iqdb_core.store.backend import Backend, Look
    from iqdb_core.store.receiver import Receiver

_BATCH: Final = 8192


class Taken(NamedTuple):
    """What a first takeover wrote and saw.

    Parameters
    ----------
    changes, live : int
        Feed rows, and how many of them are of live images.
    image_mix : int
        See `Counter`.
    """

    changes: int
    live: int
    image_mix: int


def take_over(
    backend: Backend,
    connection: sa.Connection,
    rows: int,
    progress: Callable[[int, int], None] | None,
    receiver: Receiver | None,
) -> Taken | None:
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
    """
    if receiver is not None and not receiver.begin(backend.store_id(connection), rows):
        receiver = None
    found = backend.first_pass(connection)
    if found is None:
        return None
    with closing(found.fill), closing(found.looks), _Filling(backend, connection, found.fill) as filling:
        takeover = _Takeover(backend, connection, filling, receiver)
        if receiver is not None:
            receiver.get_ready()
        done = 0
        for look in filling.ahead(found.looks):
            takeover.follow(look)
            done += look.n_rows
            if progress is not None:
                progress(done, rows)
        changes, image_mix = filling.wait()
        return Taken(changes, takeover.live, image_mix)


class _Filling:
    """The thread that lets the database write feed rows, and the one that looks ahead.

    The first rows are written at once: then it is known that there will be any.
    """

    def __init__(self, backend: Backend, connection: sa.Connection, fill: Generator[int]) -> None:
        self.first = next(fill, 0)
        self._fill = fill
        self._fingerprint = partial(backend.fingerprint, connection)
        self._is_ending = Event()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="takeover")

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Write the rest; the connection is this thread's until `wait` has returned."""
        self._all = self._threads.submit(self._run)

    def wait(self) -> tuple[int, int]:
        """Return how many feed rows there are, when all are written, and the mix of the images."""
        return self._all.result()

    def ahead(self, looks: Generator[Look]) -> Generator[Look]:
        """Yield looks, and take the next one in the background."""
        looking = self._threads.submit(next, looks, None)
        while (look := looking.result()) is not None:
            looking = self._threads.submit(next, looks, None)
            if self._all.done():
                self._all.result()  # should it have failed, the rest is not looked at in vain
            yield look

    def _run(self) -> tuple[int, int]:
        total = self.first
        while not self._is_ending.is_set() and (count := next(self._fill, 0)):
            total += count
        return total, self._fingerprint()[1]

    def __exit__(self, *_: object) -> None:
        """End both threads after what is under way."""
        self._is_ending.set()
        self._threads.shutdown(cancel_futures=True)


class _Takeover:
    """How far it is, in the order of the feed."""

    def __init__(
        self, backend: Backend, connection: sa.Connection, filling: _Filling, receiver: Receiver | None
    ) -> None:
        self._backend = backend
        self._connection = connection
        self._filling = filling
        self._receiver = receiver
        self._cursor = 0
        self.live = 0
        lineage.mark(connection, 0, filling.first)
        # There are no more: the takeover is one transaction.
        self._marks = [backend.marks(connection, seq)[1] for seq in (0, 1)]
        filling.start()

    def follow(self, look: Look) -> None:
        """Put the next rows right in the feed if they are unusual, and hand them on."""
        if look.unusual_after is None:
            changes = look.n_rows
            self.live += changes
        else:
            changes = self._put_right(look.unusual_after, look.n_rows)
        if changes and self._receiver is not None:
            self._receiver.take(self._changes(look, changes))
        self._cursor += changes

    def _put_right(self, after: int, n_rows: int) -> int:
        """Look at rows one by one; returns how many of them are in the feed."""
        self._filling.wait()
        changes = 0
        for start in range(0, n_rows, _BATCH):
            compared = self._backend.compared_rows(self._connection, after, min(_BATCH, n_rows - start))
            found = []
            states = states_of(image_columns(compared))
            for row, (state, digest) in zip(compared, states, strict=True):
                row_id, post_id, seq = row[0], row[1], row[6]
                if not is_image_id(post_id):
                    report_no_id(row_id, post_id)
                    continue
                if state == BROKEN:
                    report_broken(row_id, post_id)
                found.append(FeedRow(seq, post_id, 0, state, row_id, digest))
            self._backend.put_feed(self._connection, found)
            self.live += sum(row.state != BROKEN for row in found)
            changes += len(found)
            after = compared[-1][0]
        return changes

    def _changes(self, look: Look, n_changes: int) -> ChangeBatch:
        """Return the next changes of the feed."""
        cursor, last = self._cursor, self._cursor + n_changes
        if look.contents is None:
            batch = self._backend.changes(self._connection, cursor, n_changes)
        else:
            seqs, is_live = np.arange(cursor + 1, last + 1), np.ones(n_changes, np.bool_)
            batch = ChangeBatch(seqs, look.contents.post_ids, is_live, *look.contents[1:])
        return replace(batch, feed=FeedState(last, self._marks[min(cursor, 1)], self._marks[1]))
