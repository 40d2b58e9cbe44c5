"""Liveness and readiness, for process managers and load balancers."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.web.answers import json_response
from api.web.services import services_of

router: Final = APIRouter()


@router.get("/live")
async def live() -> Response:
    """Answer 200 as long as the process serves requests at all."""
    return json_response({"live": True})


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Answer 200 once requests are served, and 503 with Retry-After before.

    A front end whose query nodes are away is ready all the same: it accepts images.
    """
    services_of(request)
    return json_response({"ready": True})
