"""One image: add, get, delete. Thin: parse, one call, render.

Two dialects share the paths; `requests` reads them and `answers` writes them.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.interface import Added, Queued
from api.ingestion.picture import NewImage
from api.web.answers import Dialect, added_body, image_body, json_response, named_source
from api.web.document.images import ADD, DELETE, GET
from api.web.reading.fetching import parameters_with_picture
from api.web.reading.parameters import dialect_of, query_values
from api.web.reading.requests import (
    IF_ABSENT,
    image_id_from,
    is_flag_set,
    picture_of,
    source_of,
    wants_to_wait,
)
from api.web.services import services_of

router: Final = APIRouter()


@router.post("/images/{image_id}", openapi_extra=ADD)
async def add_image(request: Request, image_id: str) -> Response:
    """Add an image, or replace the one with this id, unless `if_absent` forbids that."""
    number = image_id_from(image_id)
    wait = wants_to_wait(request)
    with await parameters_with_picture(request) as params:
        # `if_absent` counts wherever it is given.
        in_query = query_values(request).get(IF_ABSENT)
        if_absent = is_flag_set(IF_ABSENT, params.get(IF_ABSENT)) or is_flag_set(IF_ABSENT, in_query)
        new = NewImage(number, picture_of(params), source_of(params), if_absent)
        outcome = await services_of(request).ingestion.add(new, wait=wait)
    return added_response(outcome, params.dialect)


@router.get("/images/{image_id}", openapi_extra=GET)
async def get_image(request: Request, image_id: str) -> Response:
    """Return the hash of a known image."""
    number = image_id_from(image_id)
    search = services_of(request).search
    body = image_body(number, await search.get(number), dialect_of(request))
    return json_response(body | named_source(await search.sources([number]), number))


@router.delete("/images/{image_id}", openapi_extra=DELETE)
async def delete_image(request: Request, image_id: str) -> Response:
    """Delete an image; an unknown id is no error."""
    number = image_id_from(image_id)
    late = await services_of(request).ingestion.delete([number])
    return added_response(late[0], dialect_of(request)) if late else json_response({"post_id": number})


def added_response(outcome: Added | Queued, dialect: Dialect) -> Response:
    """Render an add: 200 with the hash, or 202 with the job to follow."""
    if isinstance(outcome, Queued):
        location = f"/jobs/{outcome.job_id}"
        body = {"post_id": outcome.image_id, "job_id": outcome.job_id, "state": "queued"}
        return json_response(body, status=202, headers={"Location": location})
    return json_response(added_body(outcome, dialect))
