"""The web page: drop a picture, and see its copies. Static files, no build step, nothing of third parties."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.pictures.thumbnails import Thumbnails
from api.web.answers import WholeFile, json_response
from api.web.errors import UnknownPage
from iqdb_core.errors import WrongUsage
from iqdb_core.web_address import split_web_address

router: Final = APIRouter(include_in_schema=False)

_STATIC: Final = Path(__file__).with_name("static")
_KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES: Final = {path.name: path for path in _STATIC.iterdir() if path.suffix in _KINDS}
"""Listed once: nothing else is served, whatever a request names."""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the page must know of its server.

    Parameters
    ----------
    link : str
        Where a match links to, with "{id}" in it; empty: to its source, if that is an address.
    thumbnail : str
        Address of a match's small picture, with "{id}" in it; empty: none.
    pictures : Thumbnails or None
        Small pictures of files, for `GET /images/{id}/thumbnail`.
    can_fetch : bool
        Whether a query may name a picture by its address.
    max_bytes : int
        Largest picture, bytes; 0: not known.

    Raises
    ------
    WrongUsage
        A link or thumbnail that is no http(s) address with "{id}" in it.
    """

    link: str = ""
    thumbnail: str = ""
    pictures: Thumbnails | None = None
    can_fetch: bool = False
    max_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("link", "thumbnail"):
            template = getattr(self, name)
            if not template:
                continue
            if "{id}" not in template:
                raise WrongUsage(f"--{name} is an address with '{{id}}' in it, not {template!r}")
            _origin_of(name, template)

    def headers(self) -> dict[str, str]:
        """Return the headers of every file of the page."""
        pictures = f" {_origin_of('thumbnail', self.thumbnail)}" if self.thumbnail else ""
        return {
            # Nothing but our own files runs, and pictures come from here, from the visitor's own disk (blob:)
            # and from where the operator said.
            "Content-Security-Policy": (
                f"default-src 'self'; img-src 'self' blob: data:{pictures}; object-src 'none'; "
                "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }


@router.get("/")
async def index(request: Request) -> Response:
    """Serve the page."""
    return WholeFile(_STATIC / "index.html", headers=page_options_of(request).headers())


@router.get("/static/page.json")
async def configuration(request: Request) -> Response:
    """Tell the page what it must know of its server."""
    options = page_options_of(request)
    body = {
        "link": options.link,
        "thumbnail": options.thumbnail,
        "pictures": options.pictures is not None,
        "fetch": options.can_fetch,
        "max_bytes": options.max_bytes,
    }
    return json_response(body, headers={"Cache-Control": "no-cache"})


@router.get("/static/{name}")
async def static_file(request: Request, name: str) -> Response:
    """Serve a style, a script or a drawing of the page."""
    path = _FILES.get(name)
    if path is None:
        raise UnknownPage("there is no such file")
    return WholeFile(path, media_type=_KINDS[path.suffix], headers=page_options_of(request).headers())


def page_options_of(request: Request) -> PageOptions:
    """Return the options of the page of this application."""
    options: PageOptions = request.app.state.page
    return options


def _origin_of(name: str, template: str) -> str:
    """Return the scheme and host of an address, fit to be a source of a Content-Security-Policy."""
    parts = split_web_address(template)
    if parts is None or "@" in parts.netloc:
        raise WrongUsage(f"--{name} begins with https:// or http:// and a host, unlike {template!r}")
    return f"{parts.scheme}://{parts.netloc}"
