"""Composition root of `iqdb http`: everything in one process, on an SQLite file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fastapi import FastAPI

from api.contents.reader import ContentsReader
from api.ingestion.embedded import EmbeddedIngestion
from api.ingestion.group_commit import GroupCommitter
from api.ingestion.waits import Waits
from api.metrics.instruments import Instruments
from api.roles.collectors import IndexCollector, WritesCollector
from api.roles.front_end_parts import compose_front_end, create_hasher
from api.roles.index_ahead import IndexAhead
from api.roles.parts import open_database, open_index, start_compilation
from api.search.health import public_values
from api.search.local import LocalSearch
from api.web.loading import OnFailure, Startup
from api.web.services import Services
from iqdb_core.clock import RevisionClock
from iqdb_core.settings import Settings

POLL_S: Final = 0.05


def create_app(
    settings: Settings, *, host: str, on_ready: Callable[[str], None], on_failure: OnFailure
) -> FastAPI:
    """Return the application; `on_failure` is also called if a part of it fails later."""
    return compose_front_end(
        settings,
        lambda startup, instruments: load(settings, startup, on_failure, instruments),
        host=host,
        on_ready=on_ready,
        on_failure=on_failure,
    )


def load(
    settings: Settings, startup: Startup[Services], on_failure: OnFailure, instruments: Instruments
) -> Services:
    """Build store, index, follower, committer and the seams over them.

    Raises
    ------
    StoreInvalid, StoreUnavailable, ConfigError
        The database or the index directory cannot be used; the message says why.
    """
    settings = settings.with_poll(POLL_S)
    with startup.stack as stack:
        compilation = start_compilation(("index", "signature"), settings, startup)
        ahead = IndexAhead(settings, startup, compilation)
        store = open_database(settings, startup, ahead)
        index, follower = open_index(settings, store, startup, compilation, ahead, on_failure)
        instruments.add(IndexCollector(index, follower))
        hasher = create_hasher(settings, instruments)
        stack.callback(hasher.close)
        committer = GroupCommitter(store, follower.offer, observe=instruments.observe)
        stack.callback(committer.close)
        instruments.add(WritesCollector(lambda: committer.last_error))
        search = LocalSearch(index, follower, store=store, observe=instruments.observe)
        stack.callback(search.close)
        startup.on_signal(search.begin_shutdown)
        waits = Waits(startup.loop)
        startup.on_signal(waits.begin_shutdown)
        ingestion = EmbeddedIngestion(
            hasher=hasher,
            committer=committer,
            search=search,
            clock=RevisionClock(lambda: time.time_ns() // 1000, store.max_revision()),
            waits=waits,
            timeout_s=settings.add_timeout_s,
            store_id=lambda: store.store_id,
        )
        compilation.begin()
        summary = f"{index.image_count:,} images in {settings.database_url}"
        contents = ContentsReader(lambda: store)
        stack.callback(contents.close)
        startup.on_signal(contents.stop_waiting)
        return Services(
            ingestion=ingestion,
            search=search,
            hasher=hasher,
            contents=contents,
            summary=summary,
            close=stack.pop_all().close,
            trouble=lambda: public_values({"write_error": committer.last_error}),
        )
