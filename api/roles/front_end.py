"""Composition root of `iqdb api`: the queue for writes, query nodes for reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from fastapi import FastAPI

from api.contents.reader import ContentsReader
from api.ingestion.acceptor import JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.ledger_threads import LedgerThreads
from api.ingestion.queued import QueueIngestion
from api.ingestion.waits import Waits
from api.metrics.instruments import Instruments
from api.roles.front_end_parts import compose_front_end, create_hasher
from api.roles.hints import HintListener
from api.roles.parts import start_compilation
from api.roles.queue_parts import Seeding, connect_redis, create_sender, open_ledger, query_urls_of
from api.roles.remote_collectors import NodeCollector, QueueCollector
from api.search.health import public_values
from api.search.remote import RemoteSearch
from api.web.loading import OnFailure, Startup
from api.web.services import Services
from iqdb_core.jobs import Keys
from iqdb_core.settings import Settings
from iqdb_core.store import open_store
from iqdb_core.web_address import without_user


def create_app(
    settings: Settings, *, host: str, on_ready: Callable[[str], None], on_failure: OnFailure
) -> FastAPI:
    """Return the application; raises WrongUsage for settings that cannot work."""
    query_urls_of(settings)
    return compose_front_end(
        settings,
        partial(load, settings),
        host=host,
        on_ready=on_ready,
        on_failure=on_failure,
    )


def load(settings: Settings, startup: Startup[Services], instruments: Instruments) -> Services:
    """Set up the queue and the query nodes; neither has to be reachable yet.

    Raises
    ------
    WrongUsage
        An address is invalid.
    """
    loop = startup.loop
    with startup.stack as stack:
        startup.step("connecting")
        ledger = open_ledger(settings)
        stack.callback(ledger.close)
        seeding = Seeding(ledger)
        stack.callback(seeding.close)
        seeding.begin()
        start_compilation(("signature",), settings, startup).begin()
        hasher = create_hasher(settings, instruments)
        stack.callback(hasher.close)
        query_urls = query_urls_of(settings)
        search = RemoteSearch(query_urls)
        instruments.add(QueueCollector(ledger))
        instruments.add(NodeCollector(lambda: search.pool.nodes))
        stack.callback(lambda: asyncio.run_coroutine_threadsafe(search.close(), loop).result())
        threads = LedgerThreads()
        stack.callback(threads.close)
        waits = Waits(loop)
        startup.on_signal(waits.begin_shutdown)
        completion = CompletionWaiter(ledger, threads, loop, waits)
        hints = HintListener(
            connect_redis(settings),
            Keys(settings.redis_prefix).finished_channel,
            lambda data: completion.hint(data.decode().split()),
            on_connect=completion.look_at_all,
        )
        stack.callback(hints.close)
        acceptor = JobAcceptor(ledger, threads, create_sender(settings))
        stack.callback(acceptor.close)
        ingestion = QueueIngestion(
            ledger=ledger,
            threads=threads,
            acceptor=acceptor,
            completion=completion,
            search=search,
            waits=waits,
            hash_channels=hasher.signature,
            max_upload_bytes=settings.max_upload_bytes,
            timeout_s=settings.add_timeout_s,
        )
        nodes = ", ".join(map(without_user, query_urls))
        contents = ContentsReader(lambda: open_store(settings.database_url), lambda store: store.close())
        stack.callback(contents.close)
        startup.on_signal(contents.stop_waiting)
        return Services(
            ingestion=ingestion,
            search=search,
            hasher=hasher,
            contents=contents,
            summary=f"query nodes {nodes}",
            close=stack.pop_all().close,
            trouble=lambda: public_values({"store_error": seeding.store_error}),
        )
