"""Up to 100 queries in one request: each has its own answer, and a failed one does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.hashing import Gone
from api.web.answers import Dialect, json_response
from api.web.document.queries import QUERY_BATCH
from api.web.errors import BadRequest, message_of, status_of
from api.web.guards.auth import CALLER
from api.web.reading.body import MULTIPART, Body, begins_json, content_kind, disconnected
from api.web.reading.multipart import form_items
from api.web.reading.parameters import Parameters, json_object, query_values
from api.web.services import Services, services_of
from api.web.subjects.search import answer
from iqdb_core.errors import IqdbError

router: Final = APIRouter()

MAX_QUERIES: Final = 100
AT_ONCE: Final = 4
"""How many queries of one request run at once, so that other requests get their share."""
_NAMES: Final = frozenset({"post_id", "hash", "channels"})


@router.post("/query/batch", openapi_extra=QUERY_BATCH)
async def query_batch(request: Request) -> Response:
    """Answer up to 100 queries, in their order; parameters in the query string apply to all of them."""
    services = services_of(request)
    turns = asyncio.Semaphore(AT_ONCE)
    gone = partial(disconnected, request)

    async def one(name: str, params: Parameters) -> dict[str, Any]:
        async with turns:
            return {"name": name} | await _result(services, params, gone)

    async with _queries(request) as queries:
        request.app.state.access.charge(request.scope[CALLER], len(queries) - 1)
        results = await asyncio.gather(*(one(*query) for query in queries))
    return json_response({"results": results})


async def _result(services: Services, params: Parameters, gone: Gone) -> dict[str, Any]:
    try:
        found = await answer(services, params, gone)
    except IqdbError as error:
        return {"status": int(status_of(error)), "message": message_of(error)}
    body: dict[str, Any] = {"status": 200, "matches": found.bodies}
    if found.detail is not None:
        body["detail"] = found.detail
    if found.is_damaged:
        body["damaged"] = True
    return body


@asynccontextmanager
async def _queries(request: Request) -> AsyncIterator[list[tuple[str, Parameters]]]:
    """Yield the queries with their names: those of a form's parts, or places in a JSON list."""
    common = query_values(request)
    body = Body(request)
    first = await body.first()
    if content_kind(request.headers) == MULTIPART and not begins_json(first):
        limits = {"max_files": MAX_QUERIES, "max_fields": MAX_QUERIES, "max_field_bytes": 4096}
        async with form_items(body, request.headers["content-type"], **limits) as parts:
            yield _checked(
                [
                    (name, Parameters(Dialect.DANBOORU, {**common, _kind(value): value}))
                    for name, value in parts
                ]
            )
        return
    if not first:
        raise BadRequest("send 'queries' as JSON, or multipart/form-data with a picture or hash in each part")
    params = await json_object(body)
    queries = params.pop("queries", None)
    if not isinstance(queries, list) or not all(isinstance(query, dict) for query in queries):
        raise BadRequest("'queries' must be a list of objects with 'post_id', 'hash' or 'channels'")
    shared = {name: value for name, value in (common | params).items() if value is not None}
    yield _checked(
        [
            (str(number), Parameters(Dialect.E621, {**shared, **_only(query)}))
            for number, query in enumerate(queries)
        ]
    )


def _kind(value: UploadFile | str) -> str:
    return "file" if isinstance(value, UploadFile) else "hash"


def _only(query: dict[str, Any]) -> dict[str, Any]:
    other = sorted(query.keys() - _NAMES)
    if other:
        raise BadRequest(f"{other[0]!r} applies to all queries: put it beside 'queries'")
    return {name: value for name, value in query.items() if value is not None}


def _checked(queries: list[tuple[str, Parameters]]) -> list[tuple[str, Parameters]]:
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise BadRequest(f"a batch must have 1 to {MAX_QUERIES} queries")
    return queries
