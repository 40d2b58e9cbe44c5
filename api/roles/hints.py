"""Hints from Redis: the feed has grown, a job is final. Only hints: who gets none finds out by polling."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs.connection import RedisPort, translated

log = logging.getLogger(__name__)

_LISTEN_S: Final = 1.0
_RETRY_S: Final = 2.0


class HintListener:
    """A thread that listens on one channel of Redis.

    Parameters
    ----------
    redis_url, channel : str
    on_message : callable of (bytes)
        Called in the thread with each message; must not block.
    """

    def __init__(self, redis_url: str, channel: str, on_message: Callable[[bytes], None]) -> None:
        self._port = RedisPort.connect(redis_url)
        self._on_message = on_message
        self._channel = channel
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wake", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()
        self._port.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except QueueUnavailable as error:
                log.info("no hints of changes for now: %s", error, extra={"action": "wake_lost"})
                self._stop.wait(_RETRY_S)

    def _listen(self) -> None:
        subscription = self._port.subscribe(self._channel)
        try:
            while not self._stop.is_set():
                with translated():
                    message = subscription.get_message(timeout=_LISTEN_S)
                if message is not None:
                    self._on_message(message["data"])
        finally:
            subscription.close()
