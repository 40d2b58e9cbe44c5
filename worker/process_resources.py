"""What one worker process works with: its ledger, its store, its handler; never shared over a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from iqdb_core.jobs import RedisPort, Retention, WorkLedger
from iqdb_core.settings import Settings
from iqdb_core.signature import DecodeLimits, from_image_bytes
from iqdb_core.store import SignatureStore, open_store
from worker.handlers import IngestHandler, Patience


def open_ledger(settings: Settings) -> WorkLedger:
    """Return a ledger with connections of its own."""
    return WorkLedger(
        RedisPort.connect(settings.redis_url),
        retention=Retention(settings.job_retention_s, settings.failed_retention_s, settings.max_job_records),
        visibility_timeout_s=settings.visibility_timeout_s,
    )


class ProcessResources:
    """What one process works with; connections are never shared over a fork.

    Parameters
    ----------
    settings : callable
        Returns the settings.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._pid = 0
        self._store: SignatureStore | None = None
        self._handler: IngestHandler | None = None

    def handler(self) -> IngestHandler:
        """Return this process's handler, made at the first call; connects to nothing yet."""
        if self._handler is None or self._pid != os.getpid():
            settings = self._settings()
            self._pid = os.getpid()
            self._store = None
            self._handler = IngestHandler(
                ledger=open_ledger(settings),
                open_store=self._open_store,
                hash_image=partial(from_image_bytes, limits=DecodeLimits(max_pixels=settings.max_pixels)),
                patience=Patience(
                    budget_s=settings.task_time_limit_s / 4,
                    retry_s=settings.task_time_limit_s / 4,
                    max_attempts=settings.max_attempts,
                ),
            )
        return self._handler

    def _open_store(self) -> SignatureStore:
        if self._store is None:
            self._store = open_store(self._settings().database_url)
        return self._store
