"""Refuses an add for which the queue is too full before its body is read, if its length is known.

Plain ASGI middleware, like the other limits. It asks the ingestion seam, which knows whether there is a
queue.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.web.errors import BadRequest
from api.web.guards.limits import MAX_LENGTH_DIGITS, refuse
from api.web.loading import startup_of
from api.web.reading.requests import wants_to_wait
from api.web.services import Services
from iqdb_core.errors import IqdbError

_DRAIN_S: Final = 5.0


class QueueCapacityCheck:
    """Answer an add that would be refused anyway: 429, or 503 while the queue is unreachable."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "http" and scope["method"] == "POST" and _is_add(scope["path"]):
            try:
                await _check(Request(scope))
            except IqdbError as error:
                await refuse(error, scope, receive, send, _DRAIN_S)
                return
        await self._app(scope, receive, send)


def _is_add(path: str) -> bool:
    head, _, image_id = path.strip("/").partition("/")
    return head == "images" and (not image_id or (image_id.isascii() and image_id.isdigit()))


async def _check(request: Request) -> None:
    services: Services | None = startup_of(request).services
    length = Headers(scope=request.scope).get("content-length", "")
    if services is None or not (length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS):
        return
    try:
        wait = wants_to_wait(request)
    except BadRequest:  # the route reports it
        return
    await services.ingestion.check_capacity(int(length), wait=wait)
