"""The paths of IQDB's API: images, query, status. Thin: parse, one call, render.

Two dialects share the paths; `requests` reads them and `answers` writes them.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.interface import Added, Queued
from api.web.answers import Dialect, image_body, json_response, match_bodies
from api.web.errors import RETRY_AFTER_S, BadRequest
from api.web.openapi import ADD, DELETE, GET, QUERY, STATUS
from api.web.requests import dialect_of, image_id_from, picture_to_add, question
from api.web.services import require_token, services_of

router: Final = APIRouter()


@router.post("/images/{image_id}", openapi_extra=ADD)
async def add_image(request: Request, image_id: str) -> Response:
    """Add an image, or replace the one that has this id."""
    require_token(request)
    number = image_id_from(image_id)
    dialect = dialect_of(request)
    async with picture_to_add(request) as picture:
        outcome = await services_of(request).ingestion.add(number, picture, wait=wants_to_wait(request))
    return added_response(outcome, dialect)


@router.get("/images/{image_id}", openapi_extra=GET)
async def get_image(request: Request, image_id: str) -> Response:
    """Return the hash of a known image."""
    number = image_id_from(image_id)
    signature = await services_of(request).search.get(number)
    return json_response(image_body(number, signature, dialect_of(request)))


@router.delete("/images/{image_id}", openapi_extra=DELETE)
async def delete_image(request: Request, image_id: str) -> Response:
    """Delete an image; an unknown id is no error."""
    require_token(request)
    number = image_id_from(image_id)
    await services_of(request).ingestion.delete([number])
    return json_response({"post_id": number})


@router.post("/query", openapi_extra=QUERY)
@router.get("/query", include_in_schema=False)
async def query(request: Request) -> Response:
    """Return the images most like a picture, best first."""
    services = services_of(request)
    async with question(request) as asked:
        if isinstance(asked.picture, int):
            signature = await services.search.get(asked.picture)
        else:
            signature = await services.hasher.signature(asked.picture)
    matches = await services.search.query(signature, asked.limit, asked.min_score)
    return json_response(match_bodies(matches, dialect_of(request)))


@router.get("/status", openapi_extra=STATUS)
async def status(request: Request) -> Response:
    """Return the exact number of images, and how the parts of the server are."""
    services = services_of(request)
    body = await services.search.status() | await services.ingestion.status()
    if "images" not in body:
        return json_response(body, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})
    return json_response(body)


def wants_to_wait(request: Request) -> bool:
    """Tell whether to answer only when the work is done: `wait=false` or `Prefer: respond-async` says no."""
    text = request.query_params.get("wait", "")
    if text.lower() in {"false", "0", "no"}:
        return False
    if text.lower() not in {"", "true", "1", "yes"}:
        raise BadRequest("wait is true or false")
    preferences = request.headers.get("prefer", "").lower().replace(";", ",").split(",")
    return bool(text) or "respond-async" not in (item.strip() for item in preferences)


def added_response(outcome: Added | Queued, dialect: Dialect) -> Response:
    """Render an add: 200 with the hash, or 202 with the job to follow."""
    if isinstance(outcome, Queued):
        location = f"/jobs/{outcome.job_id}"
        body = {"post_id": outcome.image_id, "job_id": outcome.job_id, "state": "queued"}
        return json_response(body, status=202, headers={"Location": location})
    return json_response(image_body(outcome.image_id, outcome.signature, dialect))
