"""Hints from Redis: the feed has grown, a job is final. Without them, polling finds the same later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from iqdb_core.errors import QueueUnavailable
from iqdb_core.jobs.connection import RedisPort, translated

log = logging.getLogger(__name__)

_LISTEN_S: Final = 1.0
_PING_S: Final = 5.0
"""After this much silence Redis is pinged."""
_SILENT_S: Final = 15.0
"""After this much silence it counts as gone, and a new connection is made."""
_RETRY_S: Final = 2.0


class HintListener:
    """A thread that listens on one channel of Redis.

    Parameters
    ----------
    port : RedisPort
        Its own; closed with it.
    channel : str
    on_message : callable of (bytes)
        Called in the thread with each message; must not block.
    on_connect : callable, optional
        Called in the thread whenever it begins to listen: earlier messages have been missed.
    silent_s : float
        How long Redis may be silent, seconds.

    Attributes
    ----------
    breaks : int
        How often listening broke off: Redis was away or silent, or something unexpected happened.
    """

    def __init__(
        self,
        port: RedisPort,
        channel: str,
        on_message: Callable[[bytes], None],
        *,
        on_connect: Callable[[], None] = lambda: None,
        silent_s: float = _SILENT_S,
    ) -> None:
        self._port = port
        self._on_message = on_message
        self._on_connect = on_connect
        self._channel = channel
        self._silent_s = silent_s
        self.breaks = 0
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
                self.breaks += 1
                log.info("no hints of changes for now: %s", error, extra={"action": "wake_lost"})
                self._stop.wait(_RETRY_S)
            except Exception:
                # For example a message that is not ours. Without hints everything still works, only slower.
                self.breaks += 1
                log.exception("hints of changes are listened for again", extra={"action": "wake_lost"})
                self._stop.wait(_RETRY_S)

    def _listen(self) -> None:
        subscription = self._port.subscribe(self._channel, is_confirmed=True)
        heard_s = asked_s = time.monotonic()
        try:
            while not self._stop.is_set():
                now_s = time.monotonic()
                with translated():
                    if now_s - max(heard_s, asked_s) > min(_PING_S, self._silent_s / 3):
                        subscription.ping()
                        asked_s = now_s
                    message = subscription.get_message(timeout=_LISTEN_S)
                if message is not None:
                    heard_s = time.monotonic()
                    self._take(message)
                elif now_s - heard_s > self._silent_s:
                    raise QueueUnavailable(f"nothing was heard for {self._silent_s:g} seconds")
        finally:
            subscription.close()

    def _take(self, message: dict[str, bytes | str]) -> None:
        data = message["data"]
        if message["type"] == "subscribe":
            self._on_connect()
        elif message["type"] == "message" and isinstance(data, bytes):
            self._on_message(data)
