"""Counts every request by route and status. The outermost middleware, so that refusals count as well."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics.instruments import Instruments

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ANSWER: Final = 499
"""Counted for requests that ended without an answer; servers never send this status."""
GONE: Final = "iqdb.gone"
"""Set in the scope of a request whose client has disconnected: its response reaches nobody."""


class RequestCounter:
    """Count the requests of `app`.

    Parameters
    ----------
    app : ASGI application
    instruments : Instruments
    route_of : callable
        Returns the route of a path, None if it has none. For requests that are refused before they reach
        their route.
    """

    def __init__(
        self, app: ASGIApp, *, instruments: Instruments, route_of: Callable[[str], str | None]
    ) -> None:
        self._app = app
        self._instruments = instruments
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_ANSWER

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            if scope.get(GONE):
                status = _NO_ANSWER
            # Made-up paths and methods must not become labels: each label is kept until the process ends.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._instruments.count_request(method, self._route(scope), status, perf_counter() - start)

    def _route(self, scope: Scope) -> str:
        path = getattr(scope.get("route"), "path", None)
        return path if isinstance(path, str) else self._route_of(scope["path"]) or "other"
