"""The web page: drop a picture, see where it is known from. Static files, no build step, no third party."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.web.answers import json_response

router: Final = APIRouter(include_in_schema=False)

_STATIC: Final = Path(__file__).with_name("static")
_HEADERS: Final = {
    # Nothing but our own files runs, and a picture is shown only from the visitor's own disk (blob:).
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def index() -> Response:
    """Serve the page."""
    return FileResponse(_STATIC / "index.html", headers=_HEADERS)


@router.get("/static/page.css")
async def style() -> Response:
    """Serve the page's style."""
    return FileResponse(_STATIC / "page.css", headers=_HEADERS)


@router.get("/static/page.js")
async def script() -> Response:
    """Serve the page's script."""
    return FileResponse(_STATIC / "page.js", media_type="text/javascript", headers=_HEADERS)


@router.get("/static/page.json")
async def configuration(request: Request) -> Response:
    """Tell the page where a match links to."""
    return json_response({"link": request.app.state.link})
