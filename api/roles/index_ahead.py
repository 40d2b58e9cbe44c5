"""Prepares the index while its store is still being opened.

For an existing store, the checkpoint is read while the store is compared with what other programs did to it;
their changes are in the feed afterwards. For a file of IQDB that becomes a store, each image is read once:
the store passes on what it writes, before the commit, and a thread applies it to the index. Until the store
is open nothing of that is saved, and if opening fails it is discarded.

Errors of the index are not reported here: the index is then opened later, and follows the feed as if nothing
had been tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, Final

from api.web.loading import Startup
from iqdb_core.compiling import Compilation
from iqdb_core.errors import IqdbError
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.machine import raise_file_limit, usable_cores
from iqdb_core.model import ChangeBatch
from iqdb_core.settings import Settings

PLAIN_CHANGES: Final = 20_000
"""Changes that plain arithmetic loads in a second; a store with more waits for the compiled one."""
_WAITING_BATCHES: Final = 4
"""17 MB each."""
_TELL_S: Final = 0.1
log = logging.getLogger(__name__)


def opened_index(
    settings: Settings, store_id: str, get_ready: Callable[[], None] = lambda: None
) -> ImageIndex:
    """Open the index of this process; raises OSError and IndexStateError as `ImageIndex.open`."""
    options = IndexOptions(
        query_threads=settings.query_threads or usable_cores(), checkpoint_interval_s=settings.checkpoint_s
    )
    raise_file_limit()
    return ImageIndex.open(
        Path(settings.index_directory()), store_id=store_id, options=options, get_ready=get_ready
    )


class IndexAhead:
    """A `Receiver` that opens or builds the index; see `iqdb_core.store`.

    Closed with `startup`, unless `taken` has returned the index.

    Parameters
    ----------
    settings : Settings
    startup : Startup
    compilation : Compilation
        If kernels have to be compiled first, that takes longer than reading twice: the index then waits.
    """

    def __init__(self, settings: Settings, startup: Startup[Any], compilation: Compilation) -> None:
        self._settings = settings
        self._startup = startup
        self._compilation = compilation
        self._index: ImageIndex | None = None
        self._thread: Thread | None = None
        self._batches: SimpleQueue[ChangeBatch | None] = SimpleQueue()
        self._room = Semaphore(_WAITING_BATCHES)
        self._is_over = False
        self._is_new = False
        startup.stack.callback(self.close)

    def expect(self, store_id: str, n_changes: int) -> None:
        """See `Receiver`."""
        if n_changes > PLAIN_CHANGES and self._compilation.is_kept:
            self._thread = Thread(target=self._open, args=[store_id], name="index-opening", daemon=True)
            self._thread.start()

    def begin(self, store_id: str, n_images: int) -> bool:
        """See `Receiver`."""
        if n_images <= PLAIN_CHANGES or not self._compilation.is_kept:
            return False
        try:
            self._index = opened_index(self._settings, store_id)
        except (OSError, IqdbError) as error:
            self._leave(error)
            return False
        if self._index.applied_seq:
            # The index of an earlier store of this name; the follower will find out what changed.
            self._index.close()
            self._index = None
            return False
        self._is_new = True
        self._thread = Thread(target=self._run, args=[self._index], name="index-ahead", daemon=True)
        self._thread.start()
        return True

    def get_ready(self) -> None:
        """See `Receiver`."""
        self._startup.step("preparing the database")
        self._compilation.wait("index")

    def take(self, batch: ChangeBatch) -> None:
        """See `Receiver`."""
        self._room.acquire()
        self._batches.put(batch)

    def taken(self) -> ImageIndex | None:
        """Return the index, with the feed or its beginning applied; None if there is none.

        To be called after the store was opened. The caller owns the index from now on.
        """
        thread = self._thread
        if thread is None:
            return None
        self._batches.put(None)
        while thread.is_alive():
            if self._is_new and self._index is not None:
                self._startup.step(f"loaded {self._index.applied_seq:,} changes")
            else:
                self._startup.step("opening the index")
            thread.join(_TELL_S)
        index, self._index = self._index, None
        return index

    def close(self) -> None:
        """Discard the index, unless `taken` has returned it. Closing twice is harmless."""
        self._is_over = True
        self._batches.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._index is not None:
            if self._is_new:
                with suppress(OSError, IqdbError):
                    self._index.reset()
            self._index.close()
            self._index = None

    def _open(self, store_id: str) -> None:
        try:
            self._index = opened_index(self._settings, store_id, partial(self._compilation.wait, "index"))
        except Exception as error:  # noqa: BLE001 - opening it later meets and reports the same error
            self._leave(error)

    def _run(self, index: ImageIndex) -> None:
        while (batch := self._batches.get()) is not None:
            if not (self._is_over or self._startup.is_stopping):
                try:
                    index.apply(batch)
                except Exception as error:  # noqa: BLE001 - the follower meets and reports the same error
                    self._leave(error)
                    self._is_over = True
            self._room.release()

    def _leave(self, error: Exception) -> None:
        log.debug("the index is left to the follower: %s", error, extra={"action": "index_left"})
