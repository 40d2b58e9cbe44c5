"""Applies the access policy to every request before a route sees it."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from api.access.policy import AccessPolicy
from api.access.rights import READING, Right
from api.web.errors import BadRequest, error_response
from api.web.guards.origin import check_origin
from iqdb_core.errors import IqdbError

log = logging.getLogger(__name__)

CALLER: Final = "iqdb.caller"
"""Key in a request's scope for its caller; used when its full cost is known."""


class AccessControl:
    """Answer 400, 401, 403 or 429 instead of the application if the policy refuses.

    Parameters
    ----------
    app : ASGI application
    policy : AccessPolicy
    """

    def __init__(self, app: ASGIApp, *, policy: AccessPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        client = scope.get("client")
        try:
            if not path.isprintable():
                raise BadRequest("a path has printable characters only")
            headers = scope["headers"]
            admission = self._policy.check(scope["method"], path, headers, client[0] if client else None)
            if admission.needed > Right.READ and scope["method"] not in READING:
                check_origin(headers)
        except IqdbError as error:
            log.info("%s %s: %s", scope["method"], quote(path), error, extra={"action": "not_allowed"})
            await error_response(error)(scope, receive, send)
            return
        scope[CALLER] = admission.caller
        await self._app(scope, receive, send)
