"""Composition root of `iqdb query`: an index in memory that follows the store and answers front ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import FastAPI

from api.metrics.instruments import Instruments
from api.node.app import NodeServices, create_query_node
from api.roles.collectors import IndexCollector
from api.roles.hints import HintListener
from api.roles.index_ahead import IndexAhead
from api.roles.index_slots import claim_directory
from api.roles.parts import create_instruments, open_database, open_index, start_compilation
from api.roles.queue_parts import connect_redis
from api.search.local import LocalSearch
from api.web.loading import OnFailure, Startup
from iqdb_core.jobs import Keys
from iqdb_core.settings import Settings

POLL_S: Final = 0.2


def create_app(settings: Settings, *, on_ready: Callable[[str], None], on_failure: OnFailure) -> FastAPI:
    """Return the application; `on_failure` is also called if a part of it fails later."""
    instruments = create_instruments()
    return create_query_node(
        lambda startup: load(settings, startup, on_failure, instruments),
        instruments=instruments,
        on_ready=on_ready,
        on_failure=on_failure,
    )


def load(
    settings: Settings, startup: Startup[NodeServices], on_failure: OnFailure, instruments: Instruments
) -> NodeServices:
    """Open the store and the index, catch up, follow."""
    settings = settings.with_poll(POLL_S)
    with startup.stack as stack:
        settings = settings.changed(index_dir=claim_directory(settings.index_directory(), stack))
        compilation = start_compilation(("index",), settings, startup)
        ahead = IndexAhead(settings, startup, compilation)
        store = open_database(settings, startup, ahead)
        index, follower = open_index(settings, store, startup, compilation, ahead, on_failure)
        instruments.add(IndexCollector(index, follower))
        channel = Keys(settings.redis_prefix).changes_channel
        hints = HintListener(connect_redis(settings), channel, lambda _: follower.wake())
        stack.callback(hints.close)
        search = LocalSearch(index, follower, store=store, observe=instruments.observe)
        stack.callback(search.close)
        startup.on_signal(search.begin_shutdown)
        compilation.begin()
        return NodeServices(
            search=search,
            follower=follower,
            summary=f"{index.image_count:,} images",
            close=stack.pop_all().close,
        )
