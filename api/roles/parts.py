"""Parts that several roles are composed of: the database, the index with its follower, compiling."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from api.metrics.instruments import Instruments
from api.roles.database_file import file_of
from api.roles.index_ahead import PLAIN_CHANGES, IndexAhead, opened_index
from api.roles.messages import say
from api.roles.progress import COMPILING, WAITING, ProgressLine
from api.web.loading import OnFailure, Startup
from iqdb_core import index as index_room
from iqdb_core.compiling import Compilation, Room
from iqdb_core.errors import ConfigError, IndexStateError
from iqdb_core.follower import Follower
from iqdb_core.settings import Settings
from iqdb_core.store import SignatureStore, open_store

LARGE_FILE_BYTES: Final = PLAIN_CHANGES * 264
log = logging.getLogger(__name__)


def open_index(
    settings: Settings,
    store: SignatureStore,
    startup: Startup[Any],
    compilation: Compilation,
    ahead: IndexAhead,
    on_failure: OnFailure,
) -> tuple[index_room.ImageIndex, Follower]:
    """Open the index of this process, and let it follow the store.

    Everything that must be closed is registered on the stack of `startup`.
    """
    if store.head_seq() > PLAIN_CHANGES:
        startup.step(COMPILING)
        compilation.wait("index")
    startup.step("opening the index")
    index = ahead.taken()
    if index is None:
        try:
            index = opened_index(settings, store.store_id)
        except OSError as error:
            raise _no_index(settings, "opened", error) from error
    index.follow_store_id(lambda: store.store_id)
    startup.stack.callback(_save_and_close, index)
    if index.lineage is None and index.applied_seq > 0:
        # The checkpoint does not say which history of the store it belongs to.
        index.reset()
    follower = Follower(
        store,
        index,
        cursor=index.applied_seq,
        lineage=index.lineage,
        held=index.held,
        poll_s=settings.poll_s,
        on_failure=on_failure,
    )
    with ProgressLine("loading images") as line:

        def progress(done: int, total: int) -> None:
            startup.step(f"loaded {done:,} of {total:,} changes")
            line(done, total)

        try:
            follower.catch_up(progress)
        except OSError as error:  # as of a full disk
            raise _no_index(settings, "written", error) from error
    follower.start()
    startup.stack.callback(follower.stop)
    index.start_maintenance()
    return index, follower


def _no_index(settings: Settings, done: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"the index {settings.index_directory()} cannot be {done}: {error.strerror or error};"
        " choose another place with --index-dir"
    )


def create_instruments() -> Instruments:
    """Return the metrics of this process."""
    return Instruments(importlib.metadata.version("iqdb-server"))


def start_compilation(rooms: Sequence[Room], settings: Settings, startup: Startup[Any]) -> Compilation:
    """Use plain arithmetic until the compiled one is ready; ends with `startup`.

    A large file needs it, so it is loaded while the file is being opened.
    """
    compilation = Compilation(
        rooms,
        on_compiling=lambda: say(f"{COMPILING}; answers are correct meanwhile, only slower"),
        on_fast=lambda seconds: say(f"at full speed after {seconds:.0f} s"),
    )
    startup.stack.callback(compilation.close)
    startup.on_stop(compilation.close)
    file = file_of(settings.database_url)
    with suppress(OSError):  # opening it reports the error
        if file is not None and file.stat().st_size > LARGE_FILE_BYTES:
            compilation.begin("index")
    return compilation


def open_database(settings: Settings, startup: Startup[Any], ahead: IndexAhead) -> SignatureStore:
    """Open the store, with a line of progress while it is prepared; closed with `startup`.

    `ahead` gets the images of a file that is opened for the first time.
    """
    startup.step("opening the database")
    with ProgressLine("preparing the database", if_silent=WAITING) as line:

        def progress(done: int, total: int) -> None:
            startup.step(f"prepared {done:,} of {total:,} images")
            line(done, total)

        store = open_store(settings.database_url, progress=progress, receiver=ahead)
    startup.stack.callback(store.close)
    return store


def _save_and_close(index: index_room.ImageIndex) -> None:
    """Save a checkpoint for a quick restart; if that fails, the next start only takes longer."""
    try:
        index.save_checkpoint()
    except (OSError, IndexStateError) as error:
        log.warning("no checkpoint was saved: %s", error, extra={"action": "checkpoint_failed"})
    index.close()
