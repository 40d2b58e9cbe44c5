"""Who may write: the bearer token of a request against the one that is set."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from api.web.errors import Unauthorized


def require_token(request: Request) -> None:
    """Let a write pass if no token is set or the request bears it; raises Unauthorized."""
    token: str = request.app.state.token
    if not token:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Headers are latin-1 text; compared as bytes, in constant time.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Unauthorized("this needs the header 'Authorization: Bearer TOKEN' with the right token")
