"""Composition root of the distributed front end: the queue for writes, query nodes for reads."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import Any

from celery import Celery

from api.ingestion.acceptor import Dispatcher
from api.ingestion.completion import FinishedJobs
from api.ingestion.listener import Listener
from api.ingestion.queued import QueueIngestion
from api.roles.embedded import create_hasher
from api.roles.settings import Settings
from api.search.remote import RemoteSearch
from api.web.loading import Gate, OnDeath
from api.web.services import Services
from iqdb_core.errors import ConfigError, QueueUnavailable, StoreUnavailable
from iqdb_core.jobs import JobLedger, QueueLimits, RedisPort
from iqdb_core.jobs.contract import FINISHED_CHANNEL, QUEUE, TASK_INGEST, transport_options
from iqdb_core.store import open_store

log = logging.getLogger(__name__)


def load_distributed(settings: Settings, gate: Gate[Services], on_death: OnDeath) -> Services:
    """Connect to the queue and to the query nodes; neither has to be there yet.

    Raises
    ------
    ConfigError
        An address that cannot be one.
    """
    del on_death  # nothing here runs on its own that could die unnoticed
    if not settings.query_url_list():
        raise ConfigError("query_urls names no query node")
    loop = gate.loop
    with ExitStack() as stack:
        gate.progress = "connecting"
        ledger = JobLedger(
            RedisPort.connect(settings.redis_url),
            limits=QueueLimits(settings.max_queue_jobs, settings.max_queue_bytes),
            revision_floor=lambda: _highest_revision(settings.database_url),
        )
        stack.callback(ledger.close)
        _seed(ledger)
        hasher = create_hasher(settings, gate)
        stack.callback(hasher.close)
        search = RemoteSearch(settings.query_url_list())
        stack.callback(lambda: asyncio.run_coroutine_threadsafe(search.close(), loop).result())
        finished = FinishedJobs(ledger, loop)
        listener = Listener(
            settings.redis_url, FINISHED_CHANNEL, lambda data: finished.hint(data.decode().split())
        )
        stack.callback(listener.close)
        dispatcher = Dispatcher(ledger, create_sender(settings.redis_url))
        stack.callback(dispatcher.close)
        ingestion = QueueIngestion(
            ledger=ledger,
            dispatcher=dispatcher,
            finished=finished,
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
