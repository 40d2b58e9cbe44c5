"""Duplicates of the whole store. Thin: parse, one call, render."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.search.duplicates import DuplicatesWanted, page_body
from api.web.answers import json_response
from api.web.document.queries import DUPLICATES
from api.web.reading.copies import min_likelihood_of
from api.web.reading.parameters import query_parameters
from api.web.reading.requests import image_id_from
from api.web.services import services_of

router: Final = APIRouter()


@router.get("/duplicates", openapi_extra=DUPLICATES)
async def duplicates(request: Request) -> Response:
    """Return groups of images that show the same picture, from an id on; `next` begins the next page."""
    page = await services_of(request).search.duplicates(duplicates_wanted(request))
    return json_response(page_body(page))


def duplicates_wanted(request: Request) -> DuplicatesWanted:
    """Return which duplicates a request wants."""
    params = query_parameters(request)
    after = params.text("after")
    given = {name: params.number(name) for name in ("min_detail", "min_score")}
    given["min_likelihood"] = min_likelihood_of(params)
    return DuplicatesWanted(
        after=-1 if after is None else image_id_from(after),
        **{name: value for name, value in given.items() if value is not None},
    )
