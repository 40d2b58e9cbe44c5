"""Waits until changes are findable; many waits share one request to the query nodes."""

from __future__ import annotations

import asyncio

from api.search.interface import Search


class MergedWaits:
    """Gathers waits while one request is under way, then sends one request for the newest of their changes.

    Parameters
    ----------
    search : Search
    timeout_s : float
        How long one request may take, seconds.
    """

    def __init__(self, search: Search, timeout_s: float) -> None:
        self._search = search
        self._timeout_s = timeout_s
        self._gathered_seq = 0
        self._asking: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def wait(self, seq: int) -> None:
        """Return once `seq` is applied; raises IndexNotReady and SearchUnavailable, as `Search` does."""
        self._gathered_seq = max(self._gathered_seq, seq)
        if self._next is None:
            self._next = asyncio.create_task(self._ask_after(self._asking))
        await asyncio.shield(self._next)

    async def _ask_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})  # its own waiters get its result
        seq, self._gathered_seq = self._gathered_seq, 0
        self._asking, self._next = self._next, None
        await self._search.wait_applied(seq, self._timeout_s)
