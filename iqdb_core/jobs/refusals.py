"""Keeps the reason why a Redis that answers takes no jobs, and logs it once a minute.

Reads do not notice it, and the operator does not see the answers to clients.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from iqdb_core.errors import QueueRefused

log = logging.getLogger(__name__)

_REMIND_S: Final = 60.0


class Refusals:
    """Keeps the last refusal; safe to use from several threads.

    Attributes
    ----------
    last : QueueRefused or None
        Why the last jobs were refused; None once some were accepted, or would be if there were room.
    """

    def __init__(self) -> None:
        self._told, self._told_s = "", float("-inf")
        self.last: QueueRefused | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a refusal that ends the block, and raise it."""
        try:
            yield
        except QueueRefused as error:
            self.last = error
            now_s = time.monotonic()
            if error.mistake != self._told or now_s >= self._told_s + _REMIND_S:
                self._told, self._told_s = error.mistake, now_s
                log.warning("the queue takes nothing: %s", error, extra={"action": "queue_refused"})
            raise

    def end(self) -> None:
        """Note that jobs were accepted, or would be."""
        if self.last is not None:
            self.last, self._told = None, ""
            log.warning("the queue takes jobs again", extra={"action": "queue_accepts"})
