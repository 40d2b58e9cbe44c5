"""Keeps an index up to date with the store: pulls changes since a cursor into a sink, in commit order.

Owns the cursor. Knows neither SQL nor what the sink does. Polling alone is correct; `wake` only makes it
faster. Every read reports the history of the store. If that is not the sink's history (a backup was restored,
a replica took over), the sink starts again from nothing. Called by the composition roots, and by code that
waits until a write is findable.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from iqdb_core.errors import IndexNotReady, IndexStateError, StoreError
from iqdb_core.following import FollowerState, RestorePatience, Waiter, Waiters, call_all, other_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.following import ChangeSink, ChangeSource
    from iqdb_core.model import ChangeBatch, Mark

_log = logging.getLogger(__name__)

DEFAULT_BATCH: Final = 65_536
"""Changes per read: 17 MB of signatures."""
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 5.0
_WARN_AGAIN_S: Final = 60.0
_INVALID_PATIENCE_S: Final = 600.0


class Follower:
    """Follows a store's feed.

    Parameters
    ----------
    store : ChangeSource
    sink : ChangeSink
        Only one thread at a time calls it.
    cursor : int
        The last seq the sink already holds.
    lineage : Mark or None
        The store's newest mark at or below the cursor, as the sink knows it; None if it is not known. Then
        the first history that the store reports is accepted.
    held : tuple of (int, Mark or None), optional
        The newest seq that the sink held before its process ended, with the lineage there. If the store does
        not have it any more, `restart_reason` and the log say so, though the sink begins before it.
    poll_s : float
        Interval of polling without calls of `wake`, seconds.
    batch : int
        Changes per read.
    on_failure : callable of (exception), optional
        Called once, from the follower's thread, when a permanent error has ended it. The process should
        end then: its index would silently become outdated.
    invalid_patience_s : float
        For this many seconds, StoreInvalid is taken for a restore under way, during which tables vanish and
        come back; the store then counts as away. If it stays invalid for longer, the follower ends.
    """

    def __init__(
        self,
        store: ChangeSource,
        sink: ChangeSink,
        *,
        cursor: int,
        lineage: Mark | None = None,
        held: tuple[int, Mark | None] | None = None,
        poll_s: float,
        batch: int = DEFAULT_BATCH,
        on_failure: Callable[[BaseException], None] | None = None,
        invalid_patience_s: float = _INVALID_PATIENCE_S,
    ) -> None:
        self._store = store
        self._sink = sink
        self._poll_s = poll_s
        self._batch = batch
        self._on_failure = on_failure
        self._patience = RestorePatience(invalid_patience_s)
        self._applied_seq = cursor
        self._lineage = lineage
        # What the cursor covers is looked for with every read.
        self._held = held if held is not None and held[0] > cursor else None
        self._head_seen = cursor
        self._n_reads = 0
        self._last_complete_read = 0
        self._is_whole = True
        self._restart: str | None = None
        self._store_error: str | None = None
        self._sink_error: str | None = None
        self._warned_s = -math.inf
        self._state = FollowerState.STARTING
        self._death: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiters = Waiters()

    @property
    def applied_seq(self) -> int:
        """The seq up to which the sink holds everything."""
        return self._applied_seq

    @property
    def head_seen(self) -> int:
        """The newest seq the follower knows of; never below applied_seq."""
        return max(self._head_seen, self._applied_seq)

    @property
    def lag_seq(self) -> int:
        """By how many seqs the sink is behind the store, as far as the follower knows."""
        return max(0, self._head_seen - self._applied_seq)

    def head_since(self, read_number: int) -> int | None:
        """Return the newest known seq if a read after read `read_number` has completed, else None."""
        return self.head_seen if self._last_complete_read > read_number else None

    @property
    def begun_reads(self) -> int:
        """How many reads of the feed have begun, which is the number of the last one."""
        return self._n_reads

    @property
    def store_error(self) -> str | None:
        """Why the store cannot be read; None while it can."""
        return self._store_error

    @property
    def sink_error(self) -> str | None:
        """Why the sink cannot take changes now, such as a full disk; None while it can."""
        return self._sink_error

    @property
    def restart_reason(self) -> str | None:
        """Why the sink last had to start again, or what of its earlier content is lost; None if neither."""
        return self._restart

    def check_whole(self) -> None:
        """Raise IndexNotReady unless the sink holds everything that the store held at some moment.

        Raises
        ------
        IndexNotReady
            The sink is being filled again after a restore, and holds only a part so far.
        """
        if not self._is_whole:
            raise IndexNotReady(
                f"{self._restart}; the index is being built again from it,"
                f" {self._applied_seq} of {self.head_seen} changes are done"
            )

    @property
    def state(self) -> FollowerState:
        """What the follower is doing."""
        return self._state

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Apply everything the feed holds now, in the caller's thread; for use before `start`.

        While the sink applies one batch, the next is read in a second thread.

        Parameters
        ----------
        progress : callable of (done, total), optional
            Called after each batch, in seqs since the cursor at the call.

        Raises
        ------
        StoreUnavailable
            `start` may still be called: the follower's thread keeps trying.
        """
        self._drain(progress)
        self._state = FollowerState.FOLLOWING

    def start(self) -> None:
        """Follow in a thread of its own from now on."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current batch; waiters fail with IndexNotReady. May be repeated."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._state is not FollowerState.DEAD:
            self._state = FollowerState.STOPPED
        self._release_all()

    def wake(self) -> None:
        """Read the feed now. A hint: it may come too often, too early or not at all."""
        self._wake.set()

    def offer(self, batch: ChangeBatch) -> bool:
        """Apply changes that this process has just committed, without reading them from the feed.

        They are applied only if they come next in the history that the sink holds, and the follower is idle.
        Otherwise the follower is woken and reads them from the feed, like those of other writers. From any
        thread.

        Parameters
        ----------
        batch : ChangeBatch
            See `SignatureStore.apply_and_read`.

        Returns
        -------
        bool
            Whether they were applied here.
        """
        if self._turn.acquire(blocking=False):
            try:
                if self._is_next(batch):
                    self._apply(batch)
                    return True
            except Exception as exc:  # noqa: BLE001 - the follower meets and reports the same error
                _log.debug("left to the follower: %s", exc)
            finally:
                self._turn.release()
        self.wake()
        return False

    def _is_next(self, batch: ChangeBatch) -> bool:
        feed = batch.feed
        return (
            self._state is FollowerState.FOLLOWING
            and not self._stopping.is_set()
            and feed is not None
            and len(batch) > 0
            and feed.head_seq == batch.last_seq == self._applied_seq + len(batch)
            and feed.before == self._lineage
        )

    def when_applied(
        self, seq: int, callback: Callable[[IndexStateError | None], None]
    ) -> Callable[[], None]:
        """Call `callback` once the sink holds everything up to `seq`, and wake the follower.

        Parameters
        ----------
        seq : int
        callback : callable of (None or IndexStateError)
            Called at most once: immediately, in this thread, if the outcome is known, else from the thread
            that applies the seq or ends the follower. It must be quick and must not raise. It gets None when
            the seq is applied, or the error why it never will be.

        Returns
        -------
        callable
            Withdraws the callback, unless it was called already.
        """
        waiter = Waiter(callback)
        with self._lock:
            failure = self._failure()
            if failure is None and seq > self._applied_seq:
                self._waiters.add(seq, waiter)
                self._wake.set()
                return partial(self._withdraw, waiter)
        callback(None if seq <= self._applied_seq else failure)
        return lambda: None

    def _withdraw(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.withdraw(waiter)

    def _failure(self) -> IndexStateError | None:
        """Return why nothing more will be applied; None while it may be."""
        if self._state is FollowerState.DEAD:
            return IndexStateError(f"the index no longer follows the store: {self._death}")
        if self._state is FollowerState.STOPPED or self._stopping.is_set():
            return IndexNotReady("the server is stopping")
        return None

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    self._drain(None)
                except StoreError as exc:
                    if self._patience.is_over(exc):
                        raise
                    self._report_store_unavailable(exc)
                except OSError as exc:
                    self._report_sink_failure(exc)
                else:
                    self._clear_sink_failure()  # even if there was nothing to apply
                    self._state = FollowerState.FOLLOWING
                    retry_s = _FIRST_RETRY_S
                    self._wake.wait(self._poll_s)
                    continue
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
        except BaseException as exc:  # noqa: BLE001 - waiters and the process must learn that it no longer follows
            self._fail(exc)

    def _report_store_unavailable(self, exc: StoreError) -> None:
        """Note that the store cannot be read; log a warning if that is new."""
        if self._state is not FollowerState.STORE_AWAY:
            _log.warning("the store is away: %s", exc, extra={"action": "store_away"})
        self._state = FollowerState.STORE_AWAY
        self._store_error = str(exc)

    def _report_sink_failure(self, exc: OSError) -> None:
        """Note that the sink could not take a batch, which will be retried; warn once a minute."""
        self._state = FollowerState.SINK_BLOCKED
        self._sink_error = exc.strerror or str(exc)
        if time.monotonic() - self._warned_s >= _WARN_AGAIN_S:
            self._warned_s = time.monotonic()
            _log.warning("changes cannot be applied: %s", exc, extra={"action": "sink_blocked"})

    def _fail(self, exc: BaseException) -> None:
        _log.critical("the follower died", exc_info=exc, extra={"action": "follower_died"})
        with self._lock:
            self._death = exc
            self._state = FollowerState.DEAD
        self._release_all()
        if self._on_failure is not None:
            self._on_failure(exc)

    def _drain(self, progress: Callable[[int, int], None] | None) -> None:
        """Apply batches until the feed is read to its end."""
        with self._turn, ExitStack() as stack:
            self._n_reads = read_number = self._n_reads + 1
            start = self._applied_seq
            reader: ThreadPoolExecutor | None = None
            batch = self._read(self._applied_seq)
            while not self._stopping.is_set():
                reason = other_history(batch, self._applied_seq, self._lineage)
                if reason is not None:
                    self._restart_sink(reason)
                    start = 0
                    batch = self._read(0)
                    continue
                self._look_for_lost()
                self._note_head(batch)
                following = None
                if len(batch) == self._batch:
                    if reader is None:
                        reader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="feed-reader"))
                    following = reader.submit(self._read, batch.last_seq)
                if len(batch) > 0:
                    self._apply(batch)
                    if progress is not None:
                        progress(self._applied_seq - start, self.head_seen - start)
                if following is None:
                    self._is_whole = True
                    self._last_complete_read = read_number
                    return
                batch = following.result()

    def _read(self, cursor: int) -> ChangeBatch:
        batch = self._store.changes_since(cursor, self._batch)
        self._store_error = None
        self._patience.reset()
        if self._state is FollowerState.STORE_AWAY:
            _log.info("the store is back", extra={"action": "store_back"})
            self._recover()
        return batch

    def _clear_sink_failure(self) -> None:
        self._sink_error = None
        if self._state is FollowerState.SINK_BLOCKED:
            _log.info("changes are applied again", extra={"action": "sink_back"})
            self._warned_s = -math.inf
            self._recover()

    def _recover(self) -> None:
        """Leave a failure state, though there may be much to catch up with."""
        self._state = FollowerState.FOLLOWING if self._is_whole else FollowerState.REBUILDING

    def _look_for_lost(self) -> None:
        """Once, see whether the store still has what the sink held before its process ended."""
        if self._held is None:
            return
        seq, lineage = self._held
        reason = other_history(self._store.changes_since(seq, 1), seq, lineage)
        self._held = None
        if reason is not None:
            self._restart = f"the store was put back to another state ({reason})"
            _log.warning(
                "%s: unless that was meant, changes are lost; was the database's log removed?",
                self._restart,
                extra={"action": "changes_lost", "held_seq": seq},
            )

    def _restart_sink(self, reason: str) -> None:
        self._held = None
        self._restart = f"the store was put back to another state ({reason})"
        _log.warning(
            "%s: the index is being built again from the store",
            self._restart,
            extra={"action": "index_restarted", "applied_seq": self._applied_seq},
        )
        self._is_whole = False
        self._state = FollowerState.REBUILDING
        self._sink.reset()
        with self._lock:
            self._applied_seq = 0
            self._head_seen = 0
            self._lineage = None

    def _note_head(self, batch: ChangeBatch) -> None:
        feed = batch.feed
        if feed is not None:
            self._head_seen = feed.head_seq
            if len(batch) == 0:
                self._lineage = feed.before

    def _apply(self, batch: ChangeBatch) -> None:
        self._sink.apply(batch)
        self._clear_sink_failure()
        with self._lock:
            self._applied_seq = batch.last_seq
            if batch.feed is not None:
                self._lineage = batch.feed.after
            released = self._waiters.take_up_to(self._applied_seq)
        self._head_seen = max(self._head_seen, batch.last_seq)
        call_all(released, None)

    def _release_all(self) -> None:
        with self._lock:
            failure = self._failure()
            released = self._waiters.take_all()
        call_all(released, failure)
