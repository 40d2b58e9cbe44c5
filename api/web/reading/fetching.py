"""`url=` of a request: fetches the picture at a web address in place of an upload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters, parameters

if TYPE_CHECKING:
    from api.fetch.fetcher import Fetcher


async def parameters_with_picture(request: Request) -> Parameters:
    """Return the parameters of a request, with the picture at `url` as `file`; for `with`."""
    params = await parameters(request)
    if params.get("url") is None:
        return params
    with params:
        url = params.text("url") or ""
        if any(params.get(name) is not None for name in ("file", "hash", "channels", "post_id")):
            raise BadRequest("give a picture or its 'url', not both")
        fetcher: Fetcher | None = request.app.state.fetcher
        if fetcher is None:
            raise BadRequest("this server fetches no addresses (IQDB_FETCH is off); send the picture itself")
        return params.with_upload(await fetcher.fetch(url))
