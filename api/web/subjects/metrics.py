"""`GET /metrics`, for Prometheus; on front ends and query nodes."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.metrics.instruments import CONTENT_TYPE, Instruments
from api.web.document.health import METRICS

router: Final = APIRouter()


@router.get("/metrics", openapi_extra=METRICS, response_class=Response)
async def metrics(request: Request) -> Response:
    """Return what this process counts, in Prometheus' text form; also while it is starting."""
    instruments: Instruments = request.app.state.instruments
    body = await asyncio.to_thread(instruments.render)
    return Response(body, headers={"Content-Type": CONTENT_TYPE})


def process_body(request: Request) -> dict[str, Any]:
    """Return what `/status` says of the process itself."""
    instruments: Instruments = request.app.state.instruments
    return {"version": instruments.version, "uptime_s": round(instruments.uptime_s)}
