"""The query node: one index in memory, following the store, asked by front ends over HTTP.

Knows no queue of images and no pictures. Composition root of the `iqdb query` role.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.interface import AppliedWaiter
from api.ingestion.listener import Listener
from api.node.protocol import MEDIA_TYPE, NodeHeader, pack_matches
from api.roles.embedded import DISTRIBUTED_POLL_S, open_database, open_index
from api.roles.settings import Settings
from api.search.interface import LocalSearch
from api.web.answers import json_response
from api.web.errors import BadRequest
from api.web.loading import Gate, OnDeath, create_gated_app, gate_of
from api.web.requests import image_id_from, limit_from, min_score_from
from iqdb_core import codec
from iqdb_core.errors import IndexNotReady
from iqdb_core.follower import Follower
from iqdb_core.jobs.contract import CHANGES_CHANNEL

router: Final = APIRouter()

MAX_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class NodeServices:
    """Everything a running query node consists of."""

    search: LocalSearch
    follower: Follower
    summary: str
    close: Callable[[], None]


def create_query_node(
    settings: Settings,
    load: Callable[[Settings, Gate[NodeServices], OnDeath], NodeServices],
    *,
    on_ready: Callable[[str], None],
    on_failure: OnDeath,
) -> FastAPI:
    """Return the query node's application; see `gate.create_gated_app`."""
    app = create_gated_app("iqdb query node", settings, load, on_ready=on_ready, on_failure=on_failure)
    app.include_router(router)
    app.add_middleware(NodeHeader)
    return app


def load_query_node(settings: Settings, gate: Gate[NodeServices], on_death: OnDeath) -> NodeServices:
    """Open the store and the index, catch up, follow."""
    settings = settings.with_poll(DISTRIBUTED_POLL_S)
    with ExitStack() as stack:
        gate.progress = "opening the database"
        store = open_database(settings, stack)
        index, follower = open_index(settings, store, gate, on_death, stack)
        listener = Listener(settings.redis_url, CHANGES_CHANNEL, lambda _: follower.wake())
        stack.callback(listener.close)
        search = LocalSearch(index, follower)
        stack.callback(search.close)
        return NodeServices(search, follower, f"{index.image_count:,} images", stack.pop_all().close)


@router.post("/search")
async def search(request: Request) -> Response:
    """Answer a signature of 264 bytes with the records of its best matches."""
    services = _services(request)
    signature = codec.from_bytes(await request.body())
    parameters = request.query_params
    matches = await services.search.query(
        signature, limit_from(parameters.get("limit")), min_score_from(parameters.get("min_score"))
    )
    return Response(pack_matches(matches), media_type=MEDIA_TYPE)


@router.get("/signatures/{image_id}")
async def signature(request: Request, image_id: str) -> Response:
    """Return one image's signature as 264 bytes."""
    found = await _services(request).search.get(image_id_from(image_id))
    return Response(codec.to_bytes(found), media_type="application/octet-stream")


@router.get("/wait")
async def wait(request: Request) -> Response:
    """Answer once a seq is applied, or after `timeout_s` that it is not."""
    parameters = request.query_params
    try:
        seq = int(parameters["seq"])
        timeout_s = min(float(parameters.get("timeout_s", MAX_WAIT_S)), MAX_WAIT_S)
    except (KeyError, ValueError):
        raise BadRequest("wait takes the numbers 'seq' and 'timeout_s'") from None
    follower = _services(request).follower
    follower.wake()
    try:
        await AppliedWaiter(follower, timeout_s).wait(seq)
    except IndexNotReady:
        return json_response({"is_applied": False, "applied_seq": follower.applied_seq})
    return json_response({"is_applied": True, "applied_seq": follower.applied_seq})


@router.get("/status")
async def status(request: Request) -> Response:
    """Return the number of images and how far the follower is."""
    return json_response(await _services(request).search.status())


@router.get("/live")
async def live() -> Response:
    """Answer 200 as long as the process serves requests at all."""
    return json_response({"live": True})


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Answer 200 once queries can be answered, and 503 before."""
    _services(request)
    return json_response({"ready": True})


def _services(request: Request) -> Any:
    return gate_of(request).require()
