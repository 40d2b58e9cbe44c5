"""How does an index keep in step with the store? Pulls changes since a cursor into a sink, in commit order.

Owns the cursor. Knows neither SQL nor what the sink does. Polling is what makes it correct; `wake` only
makes it early. Every read tells which history the store has: one that is not the sink's (a backup put back, a
replica that took over) makes the sink start again from nothing. Called by the composition roots, and by
whoever must wait until a write can be found.
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
from iqdb_core.following import FollowerState, RestorePatience, Waiter, Waiters, call_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.following import ChangeSink, ChangeSource
    from iqdb_core.model import ChangeBatch, Mark

_log = logging.getLogger(__name__)

DEFAULT_BATCH: Final = 65_536
"""Changes per read: 17 MB of signatures."""
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 5.0
_TELL_AGAIN_S: Final = 60.0
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
        The store's newest mark at or below the cursor, as the sink knows it; None if it does not, and the
        store is believed.
    poll_s : float
        How often to look when nobody calls `wake`.
    batch : int
        Changes per read.
    on_death : callable of (exception), optional
        Called once, from the follower's thread, when an error that does not heal ended it. The process should
        not live on: its index would silently grow old.
    invalid_patience_s : float
        For so long StoreInvalid is taken for a restore that goes on, during which tables vanish and come
        back, and the store for one that is away. A store that stays invalid ends the follower.
    """

    def __init__(
        self,
        store: ChangeSource,
        sink: ChangeSink,
        *,
        cursor: int,
        lineage: Mark | None = None,
        poll_s: float,
        batch: int = DEFAULT_BATCH,
        on_death: Callable[[BaseException], None] | None = None,
        invalid_patience_s: float = _INVALID_PATIENCE_S,
    ) -> None:
        self._store = store
        self._sink = sink
        self._poll_s = poll_s
        self._batch = batch
        self._on_death = on_death
        self._patience = RestorePatience(invalid_patience_s)
        self._applied_seq = cursor
        self._lineage = lineage
        self._head_seen = cursor
        self._looks = 0
        self._last_look = 0
        self._is_whole = True
        self._restart: str | None = None
        self._store_error: str | None = None
        self._sink_error: str | None = None
        self._told_s = -math.inf
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
        """How many seqs the sink is behind, as far as the follower knows."""
        return max(0, self._head_seen - self._applied_seq)

    def head_since(self, look: int) -> int | None:
        """Return what the store ended at, if that was read after `begun_looks` said `look`; None if not."""
        return self.head_seen if self._last_look > look else None

    @property
    def begun_looks(self) -> int:
        """How often it has begun to read the feed."""
        return self._looks

    @property
    def store_error(self) -> str | None:
        """Why the store cannot be read; None while it can."""
        return self._store_error

    @property
    def sink_error(self) -> str | None:
        """Why the sink cannot take changes at the moment, such as a full disk; None while it can."""
        return self._sink_error

    @property
    def restart_reason(self) -> str | None:
        """Why the sink had to start again from nothing the last time that it did; None if it never did."""
        return self._restart

    def check_whole(self) -> None:
        """Pass if the sink holds all that the store held at some moment.

        Raises
        ------
        IndexNotReady
            It is being filled again after the store was put back; what it holds by now is only a part.
        """
        if not self._is_whole:
            raise IndexNotReady(
                f"{self._restart}; the index is built again from it,"
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
            `start` may still be called: the follower's thread goes on trying.
        """
        self._drain(progress)
        self._state = FollowerState.FOLLOWING

    def start(self) -> None:
        """Follow in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the batch it is applying; waiters fail with IndexNotReady. May be repeated."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._state is not FollowerState.DEAD:
            self._state = FollowerState.STOPPED
        self._release_all()

    def wake(self) -> None:
        """Look at the feed now. A hint: it may come too often, too early or not at all."""
        self._wake.set()

    def offer(self, batch: ChangeBatch) -> bool:
        """Apply changes that this process has just committed, without reading them from the feed.

        They are taken only where they are next in the history that the sink holds, and the follower has
        nothing else to do. Else it is woken and reads them for itself, as those of other writers. From any
        thread.

        Parameters
        ----------
        batch : ChangeBatch
            See `SignatureStore.apply_and_read`.

        Returns
        -------
        bool
            Whether they are applied.
        """
        if self._turn.acquire(blocking=False):
            try:
                if self._is_next(batch):
                    self._apply(batch)
                    return True
            except Exception as exc:  # noqa: BLE001 - the follower meets it as well, and says so
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
        """Call back once the sink holds everything up to `seq`, and wake the follower.

        Parameters
        ----------
        seq : int
        callback : callable of (None or IndexStateError)
            Called at most once: at once and in this thread if nothing has to be waited for, else from
            whichever thread applies the seq or ends the follower. It must be quick and not raise. It gets
            None when the seq is applied, or why it never will be.

        Returns
        -------
        callable
            Withdraws the callback, if it was not called yet.
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
        """Return why nothing more will be applied, None while something may."""
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
                    self._tell_away(exc)
                except OSError as exc:
                    self._tell_blocked(exc)
                else:
                    self._note_sink_back()  # also where nothing was left to apply
                    self._state = FollowerState.FOLLOWING
                    retry_s = _FIRST_RETRY_S
                    self._wake.wait(self._poll_s)
                    continue
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
        except BaseException as exc:  # noqa: BLE001 - nobody may go on believing that the index follows
            self._die(exc)

    def _tell_away(self, exc: StoreError) -> None:
        """Note that the store cannot be read; warn when that is new."""
        if self._state is not FollowerState.STORE_AWAY:
            _log.warning("the store is away: %s", exc, extra={"action": "store_away"})
        self._state = FollowerState.STORE_AWAY
        self._store_error = str(exc)

    def _tell_blocked(self, exc: OSError) -> None:
        """Note that the sink could not take a batch, which it will be given again; warn once a minute."""
        self._state = FollowerState.SINK_BLOCKED
        self._sink_error = exc.strerror or str(exc)
        if time.monotonic() - self._told_s >= _TELL_AGAIN_S:
            self._told_s = time.monotonic()
            _log.warning("changes cannot be applied: %s", exc, extra={"action": "sink_blocked"})

    def _die(self, exc: BaseException) -> None:
        _log.critical("the follower died", exc_info=exc, extra={"action": "follower_died"})
        with self._lock:
            self._death = exc
            self._state = FollowerState.DEAD
        self._release_all()
        if self._on_death is not None:
            self._on_death(exc)

    def _drain(self, progress: Callable[[int, int], None] | None) -> None:
        """Apply batches until the feed is read to its end."""
        with self._turn, ExitStack() as stack:
            self._looks = look = self._looks + 1
            start = self._applied_seq
            reader: ThreadPoolExecutor | None = None
            batch = self._read(self._applied_seq)
            while not self._stopping.is_set():
                reason = self._other_history(batch)
                if reason is not None:
                    self._start_again(reason)
                    start = 0
                    batch = self._read(0)
                    continue
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
                    self._last_look = look
                    return
                batch = following.result()

    def _read(self, cursor: int) -> ChangeBatch:
        batch = self._store.changes_since(cursor, self._batch)
        self._store_error = None
        self._patience.begin_anew()
        if self._state is FollowerState.STORE_AWAY:
            _log.info("the store is back", extra={"action": "store_back"})
            self._go_on()
        return batch

    def _note_sink_back(self) -> None:
        self._sink_error = None
        if self._state is FollowerState.SINK_BLOCKED:
            _log.info("changes are applied again", extra={"action": "sink_back"})
            self._told_s = -math.inf
            self._go_on()

    def _go_on(self) -> None:
        """Say that a trouble is over, though there may be much to catch up with."""
        self._state = FollowerState.FOLLOWING if self._is_whole else FollowerState.REBUILDING

    def _other_history(self, batch: ChangeBatch) -> str | None:
        """Return why the store is not the one whose changes the sink holds; None if it is."""
        feed = batch.feed
        if feed is None:
            return None
        if feed.head_seq < self._applied_seq:
            return f"the store ends at seq {feed.head_seq}, but the index held {self._applied_seq}"
        if self._lineage is not None and feed.before != self._lineage:
            return f"the store's history up to seq {self._applied_seq} is not the one that the index held"
        return None

    def _start_again(self, reason: str) -> None:
        self._restart = f"the store was put back to another state ({reason})"
        _log.warning(
            "%s: the index is built again from the store",
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
        self._note_sink_back()
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
