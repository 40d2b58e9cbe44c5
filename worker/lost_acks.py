"""Notices when an acknowledgement did not reach Redis.

Celery asks for new messages only while it has room for them, and counts a message as out until it is
acknowledged. An acknowledgement that Redis did not get, because it restarted at that moment, would therefore
leave the worker alive, connected and idle for ever. `AcknowledgementWatch` notices; `worker.sweep` then has
the consumer connect anew.
"""

from __future__ import annotations

from typing import Any


class AcknowledgementWatch:
    """The messages whose acknowledgement is on its way over the present connection."""

    def __init__(self) -> None:
        self.generation = 0
        self._fresh: list[Any] = []
        self._older: list[Any] = []

    def renew(self) -> None:
        """Note that a new connection is in use: unacknowledged messages are delivered again over it."""
        self.generation += 1
        self._fresh = []
        self._older = []

    def expect(self, message: Any, generation: int) -> None:
        """Note that `message` is about to be acknowledged: Celery does it soon after, in its event loop."""
        if generation == self.generation:
            self._fresh.append(message)

    def has_lost(self) -> bool:
        """Return whether an acknowledgement is missing that was due before the previous call."""
        is_lost = any(not message.acknowledged for message in self._older)
        self._older = [message for message in self._fresh if not message.acknowledged]
        self._fresh = []
        return is_lost
