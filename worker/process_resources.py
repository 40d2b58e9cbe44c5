"""What one worker process works with: its ledger, its store and its handler; never shared over a fork."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final

from iqdb_core.jobs import Idling, Keys, RedisPort, Retention, WorkLedger
from iqdb_core.jobs.stages import StageTally
from iqdb_core.model import Write, WriteOutcome
from iqdb_core.settings import Settings
from iqdb_core.signature import DecodeLimits, read_timed
from iqdb_core.store import SignatureStore, StoreTimeouts, open_store
from worker.handlers import IngestHandler, TaskLimits

LINGER_S: Final = 0.5
"""How long a task listens before it ends: a message through Celery costs as much as hashing two images."""
GATHER_S: Final = 0.05
"""How long a few bulk images wait for others to share a commit with."""


def open_ledger(settings: Settings, claimant: str = "", store_id: Callable[[], str] = str) -> WorkLedger:
    """Return a ledger with connections of its own."""
    return WorkLedger(
        RedisPort.connect(settings.redis_url, sentinel_master=settings.redis_sentinel_master),
        claimant=claimant,
        retention=Retention(settings.job_retention_s, settings.failed_retention_s, settings.max_job_records),
        lease_s=settings.visibility_timeout_s,
        store_id=store_id,
        keys=Keys(settings.redis_prefix),
    )


def store_timeouts(settings: Settings) -> StoreTimeouts:
    """Return timeouts that fit into a task: one that waits too long is killed, and its images are blamed."""
    limit_s = settings.task_time_limit_s
    usual = StoreTimeouts()
    return StoreTimeouts(
        connect_s=min(usual.connect_s, limit_s / 8),
        lock_s=min(usual.lock_s, limit_s / 8),
        statement_s=limit_s / 4,
    )


def task_limits(settings: Settings) -> TaskLimits:
    """Return limits with which a task ends in time, even if the store falls silent when it has decoded."""
    limit_s = settings.task_time_limit_s
    return TaskLimits(
        budget_s=limit_s / 8,
        retry_s=limit_s / 4,
        max_attempts=settings.max_attempts,
        idling=Idling(LINGER_S, GATHER_S),
    )


class ProcessResources:
    """What one process works with; connections are never shared over a fork.

    Made before the fork, so that the parent knows by which names its children claim.

    Parameters
    ----------
    settings : callable
        Returns the settings.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._start = secrets.token_hex(4)  # process ids repeat, on other machines and over time
        self._own = threading.local()

    def claimant_of(self, pid: int) -> str:
        """Return the name by which the main thread of a child claims."""
        return f"{self._start}-{pid}"

    def handler(self) -> IngestHandler:
        """Return the handler of this process and thread, made at the first call; connects to nothing yet."""
        own = self._own
        if getattr(own, "pid", 0) != os.getpid():
            own.pid = os.getpid()
            own.handler = self._make_handler()
        handler: IngestHandler = own.handler
        return handler

    def _make_handler(self) -> IngestHandler:
        settings = self._settings()
        claimant = self.claimant_of(os.getpid())
        if threading.current_thread() is not threading.main_thread():  # a pool of threads, as Celery allows
            claimant = f"{claimant}-{threading.get_native_id()}"
        stores: list[SignatureStore] = []

        def opened() -> SignatureStore:
            if not stores:
                stores.append(open_store(settings.database_url, timeouts=store_timeouts(settings)))
            return stores[0]

        tally = StageTally(
            RedisPort.connect(settings.redis_url, sentinel_master=settings.redis_sentinel_master),
            Keys(settings.redis_prefix),
        )

        def apply(writes: Sequence[Write]) -> list[WriteOutcome]:
            start = perf_counter()
            try:
                return opened().apply(writes)
            finally:
                tally.observe("commit", perf_counter() - start)

        decode_limits = DecodeLimits(settings.max_pixels, refuse_damaged=settings.refuse_damaged)
        return IngestHandler(
            ledger=open_ledger(settings, claimant, lambda: opened().store_id),
            apply=apply,
            read_image=partial(
                read_timed,
                limits=decode_limits,
                on_decoded=partial(tally.observe, "decode"),
                on_hashed=partial(tally.observe, "hash"),
            ),
            limits=task_limits(settings),
        )
