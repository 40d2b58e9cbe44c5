"""Composition root of `iqdb api`: the queue for writes, query nodes for reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery import Celery
from fastapi import FastAPI

from api.ingestion.acceptor import JobAcceptor
from api.ingestion.completion import CompletionWaiter
from api.ingestion.queued import QueueIngestion
from api.metrics.instruments import Instruments
from api.roles.collectors import NodeCollector, QueueCollector
from api.roles.hints import HintListener
from api.roles.parts import access_of, create_hasher, create_instruments, limits_of, page_of
from api.search.remote import RemoteSearch
from api.web.app import create_front_end
from api.web.loading import OnDeath, Startup
from api.web.services import Services
from iqdb_core.errors import ConfigError, QueueUnavailable, StoreUnavailable
from iqdb_core.jobs import JobLedger, QueueLimits, RedisPort
from iqdb_core.jobs.keys import FINISHED_CHANNEL, QUEUE
from iqdb_core.jobs.messages import TASK_INGEST, transport_options
from iqdb_core.settings import Settings
from iqdb_core.store import open_store

log = logging.getLogger(__name__)


def create_app(
    settings: Settings, *, host: str, on_ready: Callable[[str], None], on_failure: OnDeath
) -> FastAPI:
    """Return the application."""
    instruments = create_instruments()
    return create_front_end(
        lambda startup: load(settings, startup, instruments),
        instruments=instruments,
        limits=limits_of(settings),
        access=access_of(settings, host),
        page_options=page_of(settings),
        on_ready=on_ready,
        on_failure=on_failure,
    )


def load(settings: Settings, startup: Startup[Services], instruments: Instruments) -> Services:
    """Connect to the queue and to the query nodes; neither has to be there yet.

    Raises
    ------
    ConfigError
        An address that cannot be one.
    """
    if not settings.query_url_list():
        raise ConfigError("query_urls names no query node")
    loop = startup.loop
    with ExitStack() as stack:
        startup.progress = "connecting"
        ledger = JobLedger(
            RedisPort.connect(settings.redis_url),
            limits=QueueLimits(settings.max_queue_jobs, settings.max_queue_bytes),
            revision_floor=lambda: _highest_revision(settings.database_url),
        )
        stack.callback(ledger.close)
        _seed(ledger)
        hasher = create_hasher(settings, startup, instruments)
        stack.callback(hasher.close)
        search = RemoteSearch(settings.query_url_list())
        instruments.add(QueueCollector(ledger))
        instruments.add(NodeCollector(lambda: search.pool.nodes))
        stack.callback(lambda: asyncio.run_coroutine_threadsafe(search.close(), loop).result())
        completion = CompletionWaiter(ledger, loop)
        hints = HintListener(
            settings.redis_url, FINISHED_CHANNEL, lambda data: completion.hint(data.decode().split())
        )
        stack.callback(hints.close)
        acceptor = JobAcceptor(ledger, create_sender(settings.redis_url))
        stack.callback(acceptor.close)
        ingestion = QueueIngestion(
            ledger=ledger,
            acceptor=acceptor,
            completion=completion,
            search=search,
            hash_channels=hasher.signature,
            max_upload_bytes=settings.max_upload_bytes,
            timeout_s=settings.add_timeout_s,
        )
        nodes = ", ".join(settings.query_url_list())
        return Services(ingestion, search, hasher, f"query nodes {nodes}", stack.pop_all().close)


def create_sender(redis_url: str) -> Any:
    """Return a function that sends the message of one chunk of job ids."""
    producer = Celery("iqdb-api", broker=redis_url)
    producer.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_transport_options=transport_options(),
        broker_connection_timeout=2,
        task_publish_retry=False,  # an accepted job that was not sent is found by the sweep
    )

    def send(job_ids: list[str]) -> None:
        producer.send_task(TASK_INGEST, args=[job_ids], queue=QUEUE, ignore_result=True)

    return send


def _highest_revision(database_url: str) -> int:
    """Ask the store; opened for the moment only, because a front end needs it no more than once."""
    store = open_store(database_url)
    try:
        return store.max_revision()
    finally:
        store.close()


def _seed(ledger: JobLedger) -> None:
    try:
        ledger.seed()
    except (QueueUnavailable, StoreUnavailable) as error:
        # The ledger refuses to guess: it asks again by itself before it gives out the first revision.
        log.warning("starting without the queue or the store: %s", error, extra={"action": "seed_later"})
