"""Queries: which known images look like this one? Thin: parse, one call, render."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.hashing import Gone
from api.ingestion.picture import Picture
from api.search.interface import CopiesWanted
from api.web.answers import json_response, match_bodies
from api.web.document.queries import FIND, FIND_BY_GET
from api.web.reading.body import disconnected
from api.web.reading.copies import copies_wanted, copy_bodies
from api.web.reading.fetching import parameters_with_picture
from api.web.reading.parameters import Parameters
from api.web.reading.requests import picture_or_id_of
from api.web.reading.sketch import ranking_of
from api.web.reading.window import window_of
from api.web.services import Services, services_of
from iqdb_core.model import Copies, QuerySignature
from iqdb_core.signature import ReadImage, turned

router: Final = APIRouter()

DETAIL_HEADER: Final = "X-Query-Detail"
"""Bits of evidence that the picture of a query can give at most."""
DAMAGED_HEADER: Final = "X-Query-Damaged"
"""Present if the query's picture is damaged."""


class Answer(NamedTuple):
    """What a query found.

    Parameters
    ----------
    bodies : list of dict
        The matches.
    detail : float or None
        Of the query's picture, in a search for copies.
    is_damaged : bool
        Whether the query's picture is damaged.
    """

    bodies: list[dict[str, Any]]
    detail: float | None = None
    is_damaged: bool = False


@router.post("/query", openapi_extra=FIND)
@router.get("/query", openapi_extra=FIND_BY_GET)
async def query(request: Request) -> Response:
    """Return the images most like a picture, best first."""
    with await parameters_with_picture(request) as params:
        found = await answer(services_of(request), params, partial(disconnected, request))
    headers = {}
    if found.detail is not None:
        headers[DETAIL_HEADER] = f"{found.detail:.1f}"
    if found.is_damaged:
        headers[DAMAGED_HEADER] = "true"
    return json_response(found.bodies, headers=headers)


async def answer(services: Services, params: Parameters, gone: Gone) -> Answer:
    """Return the result of a query; if the client disconnects, a waiting picture is not decoded."""
    picture = picture_or_id_of(params)
    rank = ranking_of(services.search, params)
    wanted = copies_wanted(params)
    if wanted is not None:
        copies, is_damaged = await find_copies(services, picture, wanted, gone)
        sources = await services.search.sources([match.image_id for match in copies.matches])
        return Answer(copy_bodies(copies, sources, params.dialect), copies.detail, is_damaged)
    window = window_of(params)
    if isinstance(picture, int):
        read = ReadImage(await services.search.get(picture), is_damaged=False)
    else:
        read = await services.hasher.read(picture, gone=gone)
    # Excluded images are skipped afterwards, so ask for more.
    limit = window.offset + window.limit + len(window.exclude)
    matches = await rank(read.signature, limit, window.min_score)
    if window.exclude:
        matches = [match for match in matches if match.image_id not in window.exclude]
    shown = matches[window.offset : window.offset + window.limit]
    if params.get("mode") is None:
        return Answer(match_bodies(shown, params.dialect), is_damaged=read.is_damaged)
    sources = await services.search.sources([match.image_id for match in shown])
    return Answer(match_bodies(shown, params.dialect, sources), is_damaged=read.is_damaged)


async def find_copies(
    services: Services, picture: Picture | int, wanted: CopiesWanted, gone: Gone
) -> tuple[Copies, bool]:
    """Search for copies of a picture, or of a known image, which is not among its own copies.

    Returns
    -------
    Copies
    bool
        Whether the picture is damaged.
    """
    if isinstance(picture, int):
        known = await services.search.get(picture)
        wanted = replace(wanted, exclude=wanted.exclude | {picture})
        return await services.search.find_copies(turned([QuerySignature(known)], wanted.turns), wanted), False
    read = await services.hasher.read_query(
        picture, turns=wanted.turns, has_parts=wanted.has_parts, gone=gone
    )
    return await services.search.find_copies(read.signatures, wanted), read.is_damaged
