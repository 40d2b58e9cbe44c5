"""Notices when an acknowledgement did not reach Redis.

Celery asks for new messages only while it has room for them, and counts a message as out until it is
acknowledged. An acknowledgement that Redis did not get, because it restarted at that moment, would therefore
leave the worker alive, connected and idle for ever. `LinkWatch` notices; `worker.sweep` then has the consumer
connect anew.
"""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class LinkWatch:
    """Which connection is the present one, and whether an acknowledgement was lost on it."""

    def __init__(self) -> None:
        self.generation = 0
        self.is_broken = False

    def renew(self) -> None:
        """Note that a new connection is in use: what is lost on an older one does not matter any more."""
        self.generation += 1
        self.is_broken = False

    def note_lost(self, generation: int) -> None:
        """Note that an acknowledgement did not arrive."""
        if generation == self.generation:
            self.is_broken = True


def request_class(watch: LinkWatch) -> type[Request]:
    """Return the class by which Celery follows one message of the task, reporting to `watch`."""

    class WatchedRequest(Request):  # type: ignore[misc]  # celery carries no types
        def __init__(self, message: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(message, *arguments, **options)
            self._generation = watch.generation

        def acknowledge(self) -> None:
            super().acknowledge()
            self._look()

        def reject(self, requeue: bool = False) -> None:
            super().reject(requeue=requeue)
            self._look()

        def _look(self) -> None:
            if not self.message.acknowledged:
                watch.note_lost(self._generation)

    return WatchedRequest
