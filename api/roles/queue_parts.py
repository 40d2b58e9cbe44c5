"""Parts made from the queue's settings: a connection, the ledger, a sender of messages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from celery import Celery

from api.search.discovery import PREFIX
from iqdb_core.errors import (
    IqdbError,
    QueueUnavailable,
    StoreError,
    StoreIncomplete,
    StoreUnavailable,
    WrongUsage,
)
from iqdb_core.jobs import JobLedger, Keys, QueueLimits, RedisPort
from iqdb_core.jobs.keys import QUEUE
from iqdb_core.jobs.messages import TASK_INGEST, transport_options
from iqdb_core.jobs.reading import silence_s
from iqdb_core.settings import Settings
from iqdb_core.store import open_store
from iqdb_core.web_address import split_web_address

log = logging.getLogger(__name__)

_NOT_NOW: Final = (QueueUnavailable, StoreUnavailable, StoreIncomplete)
_LEAVE_S: Final = 1.0
"""How long to wait for an attempt under way, which may be connecting to a silent store."""


def connect_redis(settings: Settings) -> RedisPort:
    """Return the connection pool of the queue's Redis, nothing opened yet; raises WrongUsage."""
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


class Seeding:
    """Initialises the ledger's clock and store id from the store; retries until that succeeds.

    A ledger whose clock is set accepts jobs even while the store is away. But only after this is the queue of
    another store noticed, or that of a replaced store taken over.

    Parameters
    ----------
    ledger : JobLedger
    pause_s : float
        Seconds between two attempts.

    Attributes
    ----------
    store_error : str or None
        Why the store could not be read; None once it was.
    """

    def __init__(self, ledger: JobLedger, *, pause_s: float = 5.0) -> None:
        self._ledger = ledger
        self._pause_s = pause_s
        self.store_error: str | None = None
        self._last_reported = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._retry, name="seeding", daemon=True)

    def begin(self) -> None:
        """Try once; a thread makes further attempts."""
        try:
            self._ledger.seed()
        except _NOT_NOW as error:
            self._report(error)
            self._thread.start()

    def _retry(self) -> None:
        while not self._stopping.wait(self._pause_s):
            try:
                self._ledger.seed()
            except _NOT_NOW as error:
                self._report(error)
                continue
            except IqdbError as error:
                self._note(error)
                log.error("the queue cannot be used: %s", error, extra={"action": "seed_failed"})  # noqa: TRY400
                return
            self.store_error = None
            log.info("the queue and the store are available", extra={"action": "seeded"})
            return

    def _note(self, error: IqdbError) -> None:
        self.store_error = str(error) if isinstance(error, StoreError) else None

    def _report(self, error: IqdbError) -> None:
        """Note why an attempt failed, and log it unless the one before failed for the same reason."""
        self._note(error)
        if str(error) != self._last_reported:
            self._last_reported = str(error)
            log.warning("going on without the queue or the store: %s", error, extra={"action": "seed_later"})

    def close(self) -> None:
        """End all attempts."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)


def create_sender(settings: Settings) -> Callable[[int], None]:
    """Return a function that sends this many messages; its time is bounded, whatever Redis does."""
    producer = Celery("iqdb-api", broker=settings.redis_url, set_as_current=False)
    producer.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_transport_options=transport_options(
            Keys(settings.redis_prefix), sentinel_master=settings.redis_sentinel_master
        ),
        broker_connection_timeout=2,
        task_publish_retry=False,  # the sweep replaces messages that were not sent
    )

    def send(count: int) -> None:
        for _ in range(count):
            producer.send_task(TASK_INGEST, queue=QUEUE, ignore_result=True)

    return send


def query_urls_of(settings: Settings) -> list[str]:
    """Return the base URLs of the query nodes; some may have the prefix for several nodes of a name.

    Raises
    ------
    WrongUsage
        There is none, or one is invalid.
    """
    urls = settings.query_url_list()
    if not urls:
        raise WrongUsage("query_urls names no query node")
    for url in urls:
        parts = split_web_address(url.removeprefix(PREFIX))
        if parts is None or (url.startswith(PREFIX) and parts.scheme != "http"):
            raise WrongUsage(
                f"--query-urls are addresses like http://HOST:PORT or dns+http://NAME:PORT, unlike {url!r}"
            )
    return urls


class _StoreFacts:
    """What the ledger needs of the store, which is opened only for the moment, because that is rare."""

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
