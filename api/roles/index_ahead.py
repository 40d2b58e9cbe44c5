"""The index of a file of IQDB, built while the file is taken over, so that each image is read once.

Answers: may the index come first, and what has become of it? The store hands on what it writes, before it is
committed; a thread applies it. Until the store is open nothing of it is saved, and if that fails it is
forgotten. Whatever goes wrong with the index here is left to the follower, which finds all of it in the feed.
"""

from __future__ import annotations

import logging
from contextlib import suppress
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
"""What is loaded in a second without the compiled arithmetic; a store with more waits for that."""
_WAITING_BATCHES: Final = 4
"""17 MB each."""
_TELL_S: Final = 0.1
_log = logging.getLogger(__name__)


def opened_index(settings: Settings, store_id: str) -> ImageIndex:
    """Open the index of this process; raises OSError and IndexStateError as `ImageIndex.open`."""
    options = IndexOptions(
        query_threads=settings.query_threads or usable_cores(), checkpoint_interval_s=settings.checkpoint_s
    )
    raise_file_limit()
    return ImageIndex.open(Path(settings.index_directory()), store_id=store_id, options=options)


class IndexAhead:
    """A `Receiver` that builds the index; see `iqdb_core.store`.

    Closed with `startup`, unless `taken` has given the index away.

    Parameters
    ----------
    settings : Settings
    startup : Startup
    compilation : Compilation
        What has to be compiled first takes longer than reading twice: then the index is built afterwards.
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
        startup.stack.callback(self.close)

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
            # Of a store of this name that had images; whoever follows the feed finds out what became of them.
            self._index.close()
            self._index = None
            return False
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
        """Return the index, with a beginning of the feed, or all of it, applied; None if there is none.

        For the time after the store was opened. The index is the caller's from now on.
        """
        thread = self._thread
        if thread is None or self._index is None:
            return None
        self._batches.put(None)
        while thread.is_alive():
            self._startup.step(f"loaded {self._index.applied_seq:,} changes")
            thread.join(_TELL_S)
        index, self._index = self._index, None
        return index

    def close(self) -> None:
        """Forget what was taken, if the index was not given away. Closing twice is harmless."""
        self._is_over = True
        self._batches.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._index is not None:
            with suppress(OSError, IqdbError):
                self._index.reset()
            self._index.close()
            self._index = None

    def _run(self, index: ImageIndex) -> None:
        while (batch := self._batches.get()) is not None:
            if not (self._is_over or self._startup.is_stopping):
                try:
                    index.apply(batch)
                except Exception as error:  # noqa: BLE001 - the follower meets it as well, and says so
                    self._leave(error)
                    self._is_over = True
            self._room.release()

    def _leave(self, error: Exception) -> None:
        _log.debug("the index is left to the follower: %s", error)
