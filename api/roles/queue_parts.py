"""What the roles make of the queue's settings: a connection, the ledger, a sender of messages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import Celery

from api.search.discovery import PREFIX
from iqdb_core.errors import QueueUnavailable, StoreUnavailable, WrongUsage
from iqdb_core.jobs import JobLedger, Keys, QueueLimits, RedisPort
from iqdb_core.jobs.keys import QUEUE
from iqdb_core.jobs.messages import TASK_INGEST, transport_options
from iqdb_core.jobs.reading import silence_s
from iqdb_core.settings import Settings
from iqdb_core.store import open_store
from iqdb_core.web_address import split_web_address

log = logging.getLogger(__name__)


def connect_redis(settings: Settings) -> RedisPort:
    """Return connections to the queue's Redis, none of them open yet; raises WrongUsage."""
    return RedisPort.connect(settings.redis_url, sentinel_master=settings.redis_sentinel_master)


def open_ledger(settings: Settings) -> JobLedger:
    """Return the ledger of a front end; raises WrongUsage."""
    facts = _StoreFacts(settings.database_url)
    return JobLedger(
        connect_redis(settings),
        limits=QueueLimits(settings.max_queue_jobs, settings.max_queue_bytes),
        revision_floor=facts.highest_revision,
        store_id=lambda: facts.store_id,
        keys=Keys(settings.redis_prefix),
        silent_s=silence_s(settings.sweep_s),
    )


def seed(ledger: JobLedger) -> None:
    """Seed the ledger's clock if that is possible now."""
    try:
        ledger.seed()
    except (QueueUnavailable, StoreUnavailable) as error:
        # The ledger refuses to guess: it asks again by itself before it gives out the first revision.
        log.warning("starting without the queue or the store: %s", error, extra={"action": "seed_later"})


def create_sender(settings: Settings) -> Callable[[int], None]:
    """Return a function that puts so many messages on the queue; bounded in time, whatever its peer does."""
    producer = Celery("iqdb-api", broker=settings.redis_url, set_as_current=False)
    producer.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_transport_options=transport_options(
            Keys(settings.redis_prefix), sentinel_master=settings.redis_sentinel_master
        ),
        broker_connection_timeout=2,
        task_publish_retry=False,  # a message that was not sent is missed by the sweep
    )

    def send(count: int) -> None:
        for _ in range(count):
            producer.send_task(TASK_INGEST, queue=QUEUE, ignore_result=True)

    return send


def query_urls_of(settings: Settings) -> list[str]:
    """Return the base URLs of the query nodes, some with the prefix of a name of several.

    Raises
    ------
    WrongUsage
        There is none, or one is no address.
    """
    urls = settings.query_url_list()
    if not urls:
        raise WrongUsage("query_urls names no query node")
    for url in urls:
        parts = split_web_address(url.removeprefix(PREFIX))
        if parts is None or (url.startswith(PREFIX) and parts.scheme != "http"):
            raise WrongUsage(
                f"'query_urls' are addresses like http://HOST:PORT or dns+http://NAME:PORT, unlike {url!r}"
            )
    return urls


class _StoreFacts:
    """What the ledger asks of the store; opened for the moment only, because it asks so rarely."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self.store_id = ""

    def highest_revision(self) -> int:
        store = open_store(self._database_url)
        try:
            self.store_id = store.store_id
            return store.max_revision()
        finally:
            store.close()
