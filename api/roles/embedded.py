"""Composition root of the front end: the web application and, behind its gate, the services of one mode.

`create_front_end` knows HTTP only; `load_embedded` and `load_distributed` are the two modes. Nothing outside
this file constructs services.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from api.ingestion.group_commit import GroupCommitter
from api.ingestion.hashing import Hasher
from api.ingestion.interface import EmbeddedIngestion
from api.roles.progress import ProgressLine, notice_if_slow
from api.roles.settings import Settings
from api.search.interface import LocalSearch
from api.web import batch as routes_batch
from api.web import health as routes_health
from api.web import images as routes
from api.web import page
from api.web.limits import RequestLimits
from api.web.loading import Gate, OnDeath, create_gated_app
from api.web.services import Services
from iqdb_core import index as index_room
from iqdb_core import signature as signature_room
from iqdb_core.clock import RevisionClock
from iqdb_core.errors import IndexStateError
from iqdb_core.follower import Follower
from iqdb_core.machine import usable_cores
from iqdb_core.store import SignatureStore, open_store

Loader = Callable[[Settings, Gate[Services], OnDeath], Services]
"""Builds the services of one mode."""

COMPILING = "compiling kernels; the first start on a machine takes up to a minute, later ones do not"
log = logging.getLogger(__name__)

EMBEDDED_POLL_S = 0.05
DISTRIBUTED_POLL_S = 0.2


def create_front_end(
    settings: Settings,
    load: Loader,
    *,
    on_ready: Callable[[str], None],
    on_failure: OnDeath,
) -> FastAPI:
    """Return the front end in the mode that `load` builds; see `gate.create_gated_app`."""
    app = create_gated_app("iqdb", settings, load, on_ready=on_ready, on_failure=on_failure)
    app.state.token = settings.token
    app.state.link = settings.link
    app.include_router(routes_batch.router)
    app.include_router(routes.router)
    app.include_router(routes_health.router)
    app.include_router(page.router)
    app.add_middleware(
        RequestLimits,
        max_bytes=settings.max_upload_bytes,
        max_batch_bytes=settings.max_batch_bytes,
        max_pending=settings.max_pending,
        max_pending_bytes=settings.max_pending_bytes,
        idle_s=settings.body_timeout_s,
    )
    return app


def load_embedded(settings: Settings, gate: Gate[Services], on_death: OnDeath) -> Services:
    """Build everything in this process: store, index, follower, committer.

    Raises
    ------
    StoreInvalid, StoreUnavailable, ConfigError
        The database or the index directory cannot be used; the message says why.
    """
    settings = settings.with_poll(EMBEDDED_POLL_S)
    with ExitStack() as stack:
        gate.progress = "opening the database"
        store = open_database(settings, stack)
        index, follower = open_index(settings, store, gate, on_death, stack)
        hasher = create_hasher(settings, gate)
        stack.callback(hasher.close)
        committer = GroupCommitter(store, follower.wake)
        stack.callback(committer.close)
        ingestion = EmbeddedIngestion(
            hasher=hasher,
            committer=committer,
            follower=follower,
            clock=RevisionClock(lambda: time.time_ns() // 1000, store.max_revision()),
            timeout_s=settings.add_timeout_s,
        )
        search = LocalSearch(index, follower)
        stack.callback(search.close)
        summary = f"{index.image_count:,} images in {settings.database_url}"
        return Services(ingestion, search, hasher, summary, stack.pop_all().close)


def open_index(
    settings: Settings,
    store: SignatureStore,
    gate: Gate[Any],
    on_death: OnDeath,
    stack: ExitStack,
) -> tuple[index_room.ImageIndex, Follower]:
    """Open the index of this process, bring it up to date with the store, and keep it so.

    Everything that must be closed is put on `stack`.
    """
    gate.progress = "compiling the index's kernels"
    with notice_if_slow(COMPILING):
        index_room.warm_up()
    gate.progress = "opening the index"
    options = index_room.IndexOptions(
        query_threads=settings.query_threads or usable_cores(),
        checkpoint_interval_s=settings.checkpoint_s,
    )
    index = index_room.ImageIndex.open(
        Path(settings.index_directory()), store_id=store.store_id, options=options
    )
    stack.callback(_save_and_close, index)
    if index.applied_seq > store.head_seq():
        # The store was replaced by an older copy of itself: what the index knows beyond it never happened.
        index.reset()
    follower = Follower(store, index, cursor=index.applied_seq, poll_s=settings.poll_s, on_death=on_death)
    line = ProgressLine("loading images")

    def progress(done: int, total: int) -> None:
        gate.progress = f"loaded {done:,} of {total:,} changes"
        line(done, total)

    follower.catch_up(progress)
    line.close()
    follower.start()
    stack.callback(follower.stop)
    index.start_maintenance()
    return index, follower


def create_hasher(settings: Settings, gate: Gate[Any]) -> Hasher:
    """Compile or load the signature's kernels and return the hasher over them."""
    gate.progress = "compiling"
    with notice_if_slow(COMPILING):
        signature_room.warm_up()
    return Hasher(
        decoders=settings.decoders,
        limits=signature_room.DecodeLimits(max_pixels=settings.max_pixels),
        max_upload_bytes=settings.max_upload_bytes,
    )


def open_database(settings: Settings, stack: ExitStack) -> SignatureStore:
    """Open the store, with a line of progress while it is prepared; closed by `stack`."""
    line = ProgressLine("preparing the database")
    store = open_store(settings.database_url, progress=line)
    line.close()
    stack.callback(store.close)
    return store


def _save_and_close(index: index_room.ImageIndex) -> None:
    """Leave a checkpoint for a quick restart; failing to costs time at the next start, and nothing else."""
    try:
        index.save_checkpoint()
    except (OSError, IndexStateError) as error:
        log.warning("no checkpoint was saved: %s", error, extra={"action": "checkpoint_failed"})
    index.close()
