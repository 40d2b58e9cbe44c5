"""Queries: which known images look like this one? Thin: parse, one call, render."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.picture import Picture
from api.search.interface import CopiesWanted
from api.web.answers import json_response, match_bodies
from api.web.document.openapi_copies import FIND
from api.web.reading.copies import copies_wanted, copy_bodies, window_of
from api.web.reading.fetching import parameters_with_picture
from api.web.reading.parameters import Parameters
from api.web.reading.requests import question_of
from api.web.reading.sketch import ranking_of
from api.web.services import Services, services_of
from iqdb_core.model import Asked, Copies
from iqdb_core.signature import turned

router: Final = APIRouter()

DETAIL_HEADER: Final = "X-Query-Detail"
"""Bits of evidence that the picture of a query can give at most."""


@router.post("/query", openapi_extra=FIND)
@router.get("/query", openapi_extra=FIND)
async def query(request: Request) -> Response:
    """Return the images most like a picture, best first."""
    async with parameters_with_picture(request) as said:
        bodies, detail = await answer(services_of(request), said)
    return json_response(bodies, headers=None if detail is None else {DETAIL_HEADER: f"{detail:.1f}"})


async def answer(services: Services, said: Parameters) -> tuple[list[dict[str, Any]], float | None]:
    """Return the matches of a query as bodies, and the detail of its picture if copies were asked for."""
    asked = question_of(said)
    rank = ranking_of(services.search, said)
    wanted = copies_wanted(said)
    if wanted is not None:
        copies = await find_copies(services, asked.picture, wanted)
        sources = await services.search.sources([match.image_id for match in copies.matches])
        return copy_bodies(copies, sources, said.dialect), copies.detail
    window = window_of(said)
    if isinstance(asked.picture, int):
        signature = await services.search.get(asked.picture)
    else:
        signature = await services.hasher.signature(asked.picture)
    # What is left out must not be missing at the end.
    limit = window.offset + window.limit + len(window.exclude)
    matches = await rank(signature, limit, asked.min_score)
    if window.exclude:
        matches = [match for match in matches if match.image_id not in window.exclude]
    shown = matches[window.offset : window.offset + window.limit]
    if said.get("mode") is None:
        return match_bodies(shown, said.dialect), None
    sources = await services.search.sources([match.image_id for match in shown])
    return match_bodies(shown, said.dialect, sources), None


async def find_copies(services: Services, picture: Picture | int, wanted: CopiesWanted) -> Copies:
    """Search for copies of a picture, or of a known image, which is not among its own copies."""
    if isinstance(picture, int):
        known = await services.search.get(picture)
        wanted = replace(wanted, exclude=wanted.exclude | {picture})
        return await services.search.find_copies(turned([Asked(known)], wanted.turns), wanted)
    asked = await services.hasher.asked(picture, turns=wanted.turns, has_parts=wanted.has_parts)
    return await services.search.find_copies(asked, wanted)
