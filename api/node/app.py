"""The application of a query node: answers front ends from its index, over HTTP.

Knows no queue of images and no pictures. `api.search.remote` is the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.metrics.instruments import Instruments
from api.metrics.middleware import RequestCounter
from api.node.copies import pack_copies, unpack_search
from api.node.protocol import MEDIA_TYPE, NodeHeader, pack_matches
from api.search.duplicates import page_body
from api.search.interface import CopiesWanted
from api.search.local import LocalSearch
from api.web.answers import json_response
from api.web.errors import BadRequest, message_of
from api.web.loading import OnFailure, Startup, create_loading_app, startup_of
from api.web.reading.parameters import parsed_json, query_parameters
from api.web.reading.requests import image_id_from, json_image_id
from api.web.reading.sketch import Rank
from api.web.reading.window import DEFAULT_LIMIT, MAX_EXCLUDED, MAX_LIMIT, MAX_OFFSET
from api.web.routes import Application
from api.web.subjects import metrics
from api.web.subjects.duplicates import duplicates_wanted
from iqdb_core import codec
from iqdb_core.errors import IndexNotReady, StoreError
from iqdb_core.follower import Follower

router: Final = APIRouter()

MAX_WAIT_S: Final = 30.0
MAX_MATCHES: Final = MAX_LIMIT + MAX_OFFSET + MAX_EXCLUDED
"""More than a front end ever needs for one answer."""
_MAX_SIDE: Final = 2**31 - 1
_WAIT_WORDS: Final = "wait takes the numbers 'seq' and 'timeout_s'"


@dataclass(frozen=True, slots=True)
class NodeServices:
    """The parts of a running query node."""

    search: LocalSearch
    follower: Follower
    summary: str
    close: Callable[[], None]


def create_query_node(
    load: Callable[[Startup[NodeServices]], NodeServices],
    *,
    instruments: Instruments,
    on_ready: Callable[[str], None],
    on_failure: OnFailure,
) -> Application:
    """Return the query node's application; see `loading.create_loading_app`."""
    app = create_loading_app("iqdb query node", load, on_ready=on_ready, on_failure=on_failure)
    app.state.instruments = instruments
    app.include_router(router)
    app.include_router(metrics.router)
    app.add_middleware(NodeHeader)
    app.add_middleware(RequestCounter, instruments=instruments, route_of=app.path_of)
    return app


@router.post("/search")
async def search(request: Request) -> Response:
    """Answer a signature of 264 bytes with the records of its best matches."""
    return await _ranked(request, _services(request).search.query)


@router.post("/sketch")
async def sketch(request: Request) -> Response:
    """Answer like `/search`, for the signature of a painted picture."""
    return await _ranked(request, _services(request).search.sketch)


async def _ranked(request: Request, rank: Rank) -> Response:
    """Answer with what `rank` finds; front ends apply `offset` and `exclude` themselves."""
    signature = codec.from_bytes(await request.body())
    params = query_parameters(request)
    limit = params.integer("limit", 1, MAX_MATCHES) or DEFAULT_LIMIT
    matches = await rank(signature, limit, params.number("min_score"))
    return Response(pack_matches(matches), media_type=MEDIA_TYPE)


@router.post("/copies")
async def copies(request: Request) -> Response:
    """Answer several signatures with the records of the most likely copies; see `api.node.copies`."""
    services = _services(request)
    params = query_parameters(request)
    width, height = (params.integer(name, 1, _MAX_SIDE) for name in ("width", "height"))
    size = None if width is None or height is None else (width, height)
    signatures, exclude = unpack_search(await request.body(), size)
    wanted = CopiesWanted(
        limit=params.integer("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT,
        offset=params.integer("offset", 0, MAX_OFFSET) or 0,
        exclude=exclude,
        min_score=params.number("min_score"),
        min_likelihood=params.number("min_likelihood"),
        min_detail=params.number("min_detail"),
    )
    return Response(pack_copies(await services.search.find_copies(signatures, wanted)), media_type=MEDIA_TYPE)


@router.get("/duplicates")
async def duplicates(request: Request) -> Response:
    """Return the next groups of duplicates."""
    wanted = duplicates_wanted(request)
    try:
        page = await _services(request).search.duplicates(wanted)
    except StoreError as error:
        # Not 503, which would say that the node itself is unhealthy.
        body = {"message": message_of(error), "retryable": error.retryable}
        return json_response(body, status=HTTPStatus.FAILED_DEPENDENCY)
    return json_response(page_body(page))


@router.post("/sources")
async def sources(request: Request) -> Response:
    """Answer a JSON list of ids with the sources of those that have one."""
    listed = parsed_json(await request.body())
    if not isinstance(listed, list):
        raise BadRequest("give a list of ids")
    found = await _services(request).search.sources([json_image_id(image_id) for image_id in listed])
    return json_response([[image_id, source] for image_id, source in found.items()])


@router.get("/signatures/{image_id}")
async def signature(request: Request, image_id: str) -> Response:
    """Return one image's signature as 264 bytes."""
    found = await _services(request).search.get(image_id_from(image_id))
    return Response(codec.to_bytes(found), media_type="application/octet-stream")


@router.get("/wait")
async def wait(request: Request) -> Response:
    """Answer once a seq is applied, or after `timeout_s` seconds that it is not."""
    parameters = request.query_params
    try:
        seq = int(parameters["seq"])
        timeout_s = float(parameters.get("timeout_s", MAX_WAIT_S))
    except (KeyError, ValueError):
        raise BadRequest(_WAIT_WORDS) from None
    if math.isnan(timeout_s):
        raise BadRequest(_WAIT_WORDS)
    services = _services(request)
    follower = services.follower
    read_number = follower.begun_reads
    follower.wake()
    is_applied = True
    try:
        await services.search.wait_applied(seq, min(timeout_s, MAX_WAIT_S))
    except IndexNotReady:
        is_applied = False
    body = {"is_applied": is_applied, "applied_seq": follower.applied_seq}
    head_seq = follower.head_since(read_number)
    if head_seq is not None:
        # The newest seq of the store, which is below `seq` if a backup has been put back. Only a read that
        # began after this request counts: since an earlier one, the store may have hung or been away.
        body["head_seq"] = head_seq
    return json_response(body)


@router.get("/status")
async def status(request: Request) -> Response:
    """Return the number of images and the state of the follower."""
    return json_response(await _services(request).search.status() | metrics.process_body(request))


@router.get("/live")
async def live() -> Response:
    """Answer 200 as long as the process serves requests at all."""
    return json_response({"live": True})


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Answer 200 once queries can be answered, and 503 before."""
    _services(request)
    return json_response({"ready": True})


def _services(request: Request) -> NodeServices:
    services: NodeServices = startup_of(request).require()
    return services
