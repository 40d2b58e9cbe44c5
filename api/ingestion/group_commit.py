"""Group commit: writes that arrive together share one transaction and one fsync.

One thread commits everything that arrived while the last transaction was being flushed. A single writer does
not wait for others, and each of many waits for about two flushes. Used by the embedded ingestion.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, NamedTuple

from api.metrics.stages import Observe, Stage, Timed, ignore
from iqdb_core.errors import IqdbError, StoreError, StoreUnavailable
from iqdb_core.model import ChangeBatch, Write, WriteOutcome
from iqdb_core.store import SignatureStore

log = logging.getLogger(__name__)

MAX_GROUP: Final = 1024
"""Limit of writes per transaction, far above what decoders can supply during one flush."""
WARN_AGAIN_S: Final = 60.0
"""Interval of warnings that nothing can be committed, seconds."""


class Committed(NamedTuple):
    """A write that is durable.

    Parameters
    ----------
    write : Write
    outcome : WriteOutcome
    is_applied : bool
        Whether the index of this process is known to have it; False if that is not known yet.
    """

    write: Write
    outcome: WriteOutcome
    is_applied: bool


Pending = tuple[Write, "Future[Committed]"]


class GroupCommitter:
    """Commits submitted writes in groups, in one thread of its own.

    Parameters
    ----------
    store : SignatureStore
        Its `apply_and_read` is called once per group.
    on_commit : callable of (ChangeBatch)
        Called after each commit, in the committer's thread, with the changes added to the feed; returns
        whether they are applied.
    observe : callable
        Called with the duration of each commit.
    """

    def __init__(
        self, store: SignatureStore, on_commit: Callable[[ChangeBatch], bool], *, observe: Observe = ignore
    ) -> None:
        self._observe = observe
        self._store = store
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Pending | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._last_error: str | None = None
        self._warned_s = -math.inf
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    @property
    def last_error(self) -> str | None:
        """Why the last commit failed; None if it succeeded."""
        return self._last_error

    def submit(self, write: Write) -> Future[Committed]:
        """Queue a write; the future resolves once it is durable, or fails with the store's error."""
        future: Future[Committed] = Future()
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the server is stopping")
            self._queue.put((write, future))
        return future

    def close(self) -> None:
        """Commit everything submitted, and end the thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    is_last = True
                    break
                group.append(item)
            self._commit(group)

    def _commit(self, group: list[Pending]) -> None:
        try:
            with Timed(self._observe, Stage.COMMIT):
                outcomes, changes = self._store.apply_and_read([write for write, _ in group])
        except IqdbError as error:
            if isinstance(error, StoreError):
                self._report(error)
            self._fail(group, error)
        except Exception as error:
            # The thread must survive any bug below it, and its callers must get the error.
            log.exception("a commit of %d writes failed", len(group), extra={"action": "commit_failed"})
            self._last_error = f"{type(error).__name__}: {error}"
            self._fail(group, error)
        else:
            if self._last_error is not None:
                log.info("writes are stored again", extra={"action": "commit_back"})
                self._last_error = None
            is_applied = self._on_commit(changes)
            for (write, future), outcome in zip(group, outcomes, strict=True):
                if future.set_running_or_notify_cancel():
                    future.set_result(Committed(write, outcome, is_applied))

    def _report(self, error: StoreError) -> None:
        """Keep the reason for `/status`, and log a warning: at once, and then once a minute.

        Callers only learn about their own write, but a full disk concerns the operator.
        """
        self._last_error = str(error)
        if time.monotonic() - self._warned_s >= WARN_AGAIN_S:
            self._warned_s = time.monotonic()
            log.warning("writes are refused: %s", error, extra={"action": "no_commit"})

    @staticmethod
    def _fail(group: list[Pending], error: Exception) -> None:
        for _, future in group:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
