"""Composition root of the front end: the web application and, behind its gate, the services of one mode.

`create_front_end` knows HTTP only; `load_embedded` and `load_distributed` are the two modes. Nothing outside
this file constructs services.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from api import page, routes, routes_batch, routes_health
from api.commit import GroupCommitter
from api.errors import install_error_handlers
from api.hashing import Hasher
from api.ingest import EmbeddedIngestion
from api.limits import RequestLimits
from api.progress import ProgressLine
from api.search import LocalSearch
from api.services import Gate, Services
from api.settings import Settings
from iqdb_core.clock import RevisionClock
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.signature import DecodeLimits, warm_up
from iqdb_core.store import SignatureStore, open_store

log = logging.getLogger(__name__)

Loader = Callable[[Settings, Gate, Callable[[BaseException], None]], Services]
"""Builds the services of one mode. Gets a callback to end the process with when a part of it dies later."""

EMBEDDED_POLL_S = 0.05
DISTRIBUTED_POLL_S = 0.2


def create_front_end(
    settings: Settings,
    load: Loader,
    *,
    on_ready: Callable[[str], None],
    on_failure: Callable[[BaseException], None],
) -> FastAPI:
    """Return the front end; its services are loaded in the background once it runs.

    Parameters
    ----------
    settings : Settings
    load : Loader
        `load_embedded` or `load_distributed`.
    on_ready : callable
        Called with a summary once everything is loaded.
    on_failure : callable
        Called with the reason when loading fails, or when a part dies later; is to end the process.
    """
    gate = Gate()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def load_services() -> None:
            try:
                gate.services = await asyncio.to_thread(load, settings, gate, on_failure)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the process must end with it
                on_failure(error)
            else:
                on_ready(gate.services.summary)

        loading = asyncio.create_task(load_services())
        try:
            yield
        finally:
            await loading
            if gate.services is not None:
                await asyncio.to_thread(gate.services.close)

    app = FastAPI(title="iqdb", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.gate = gate
    app.state.token = settings.token
    app.state.link = settings.link
    install_error_handlers(app)
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


def load_embedded(settings: Settings, gate: Gate, on_death: Callable[[BaseException], None]) -> Services:
    """Build everything in this process: store, index, follower, committer.

    Raises
    ------
    StoreInvalid, StoreUnavailable, ConfigError
        The database or the index directory cannot be used; the message says why.
    """
    settings = settings.with_poll(EMBEDDED_POLL_S)
    with ExitStack() as stack:
        gate.progress = "opening the database"
        store = _opened(settings, stack)
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
    gate: Gate,
    on_death: Callable[[BaseException], None],
    stack: ExitStack,
) -> tuple[ImageIndex, Follower]:
    """Open the index of this process, bring it up to date with the store, and keep it so.

    Everything that must be closed is put on `stack`.
    """
    gate.progress = "opening the index"
    options = IndexOptions(
        query_threads=settings.query_threads or (os.cpu_count() or 1),
        checkpoint_interval_s=settings.checkpoint_s,
    )
    index = ImageIndex.open(Path(settings.index_directory()), store_id=store.store_id, options=options)
    stack.callback(index.close)
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


def create_hasher(settings: Settings, gate: Gate) -> Hasher:
    """Compile or load the signature's kernels and return the hasher over them."""
    gate.progress = "compiling"
    warm_up()
    return Hasher(
        decoders=settings.decoders,
        limits=DecodeLimits(max_pixels=settings.max_pixels),
        max_upload_bytes=settings.max_upload_bytes,
    )


def _opened(settings: Settings, stack: ExitStack) -> SignatureStore:
    line = ProgressLine("preparing the database")
    store = open_store(settings.database_url, progress=line)
    line.close()
    stack.callback(store.close)
    return store
