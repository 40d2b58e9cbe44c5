"""State of the server: `/status` for people and monitors, `/live` and `/ready` for process managers."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.web.answers import json_response
from api.web.document.health import LIVE, READY, STATUS
from api.web.errors import RETRY_AFTER_S
from api.web.services import services_of
from api.web.subjects.metrics import process_body

router: Final = APIRouter()


@router.get("/status", openapi_extra=STATUS)
async def status(request: Request) -> Response:
    """Return the exact number of images, and the state of the server's parts."""
    services = services_of(request)
    body = await services.search.status() | await services.ingestion.status()
    body |= {**services.trouble(), **process_body(request)}
    if "images" not in body:
        return json_response(body, status=503, headers={"Retry-After": str(RETRY_AFTER_S)})
    return json_response(body)


@router.get("/live", openapi_extra=LIVE)
async def live() -> Response:
    """Answer 200 as long as the process serves requests at all."""
    return json_response({"live": True})


@router.get("/ready", openapi_extra=READY)
async def ready(request: Request) -> Response:
    """Answer 200 once requests are served, and 503 with Retry-After before.

    A front end whose query nodes are away is ready all the same: it accepts images.
    """
    services_of(request)
    return json_response({"ready": True})
