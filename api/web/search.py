"""Queries: which known images look like this one? Thin: parse, one call, render."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.web.answers import json_response, match_bodies
from api.web.fetching import parameters_with_picture
from api.web.openapi import QUERY
from api.web.requests import question_of
from api.web.services import services_of
from api.web.sketch import ranking_of

router: Final = APIRouter()


@router.post("/query", openapi_extra=QUERY)
@router.get("/query", openapi_extra=QUERY)
async def query(request: Request) -> Response:
    """Return the images most like a picture, best first."""
    services = services_of(request)
    async with parameters_with_picture(request) as said:
        asked = question_of(said)
        rank = ranking_of(services.search, said)
        if isinstance(asked.picture, int):
            signature = await services.search.get(asked.picture)
        else:
            signature = await services.hasher.signature(asked.picture)
    matches = await rank(signature, asked.limit, asked.min_score)
    return json_response(match_bodies(matches, said.dialect))
