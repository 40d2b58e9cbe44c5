"""Many images in one request: each has its own outcome, and a failed one does not affect the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.interface import Added, Failed, Outcome, Queued
from api.ingestion.picture import NewImage
from api.web.answers import Dialect, added_body, json_response
from api.web.document.images import ADD_MANY, DELETE_MANY
from api.web.errors import BadRequest, message_of, retry_after, status_of
from api.web.guards.limits import IDS_MAX_BYTES
from api.web.reading.body import FORM, MULTIPART, Body, begins_json, content_kind
from api.web.reading.multipart import PICTURE, form_items
from api.web.reading.parameters import json_object, parsed_json, query_values
from api.web.reading.requests import (
    IF_ABSENT,
    image_id_from,
    is_flag_set,
    json_image_id,
    json_image_ids,
    wants_to_wait,
)
from api.web.services import services_of
from iqdb_core import codec
from iqdb_core.codec import check_source
from iqdb_core.errors import IqdbError

router: Final = APIRouter()

MAX_BATCH: Final = 1000
SOURCE: Final = ".source"

Items = list[NewImage | Failed]


@router.post("/images", openapi_extra=ADD_MANY)
async def add_images(request: Request) -> Response:
    """Add or replace up to 1,000 images; each part is named by its id, and each has its own outcome."""
    wait = wants_to_wait(request)
    async with _batch(request) as (dialect, items):
        good = [one for one in items if isinstance(one, NewImage)]
        outcomes = iter(await services_of(request).ingestion.add_many(good, wait=wait))
        results: list[Outcome] = [one if isinstance(one, Failed) else next(outcomes) for one in items]
    status = 202 if any(isinstance(result, Queued) for result in results) else 200
    headers = retry_after(result.error for result in results if isinstance(result, Failed))
    body = {"images": [_outcome_body(result, dialect) for result in results]}
    return json_response(body, status=status, headers=headers)


@router.delete("/images", openapi_extra=DELETE_MANY)
async def delete_images(request: Request) -> Response:
    """Delete up to 1,000 images, given as a JSON list of ids or as {"post_ids": [...]}."""
    image_ids = json_image_ids(parsed_json(await Body(request).whole(IDS_MAX_BYTES)), MAX_BATCH)
    late = await services_of(request).ingestion.delete(list(dict.fromkeys(image_ids)))
    if not late:
        return json_response({"post_ids": image_ids})
    jobs = [{"post_id": one.image_id, "job_id": one.job_id} for one in late]
    return json_response({"post_ids": image_ids, "jobs": jobs}, status=202)


@asynccontextmanager
async def _batch(request: Request) -> AsyncIterator[tuple[Dialect, Items]]:
    """Yield the ids and pictures of a batch; an invalid part is replaced by its error."""
    if_absent = is_flag_set(IF_ABSENT, query_values(request).get(IF_ABSENT))
    body = Body(request)
    kind = content_kind(request.headers)
    first = await body.first()
    if kind == MULTIPART and not begins_json(first):
        limits = {"max_files": MAX_BATCH, "max_fields": 2 * MAX_BATCH, "max_field_bytes": 8192}
        async with form_items(body, request.headers["content-type"], **limits) as parts:
            yield Dialect.DANBOORU, _checked(_named_items(list(parts)), if_absent=if_absent)
        return
    if not first or (kind == FORM and not begins_json(first)):
        raise BadRequest("send multipart/form-data with a part for each image, or application/json")
    params = await json_object(body)
    images = params.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise BadRequest("give 'images' as a list of objects with 'post_id' and 'hash'")
    if_absent = is_flag_set(IF_ABSENT, params.get(IF_ABSENT)) or if_absent
    yield Dialect.E621, _checked([_json_item(image) for image in images], if_absent=if_absent)


def _checked(items: Items, *, if_absent: bool) -> Items:
    if not 1 <= len(items) <= MAX_BATCH:
        raise BadRequest(f"a batch must have 1 to {MAX_BATCH} images")
    if len({one.image_id for one in items}) != len(items):
        raise BadRequest("a batch names an id more than once")
    if not if_absent:
        return items
    return [replace(one, if_absent=True) if isinstance(one, NewImage) else one for one in items]


def _named_items(parts: Sequence[tuple[str, UploadFile | str]]) -> Items:
    """Return the images of a form: each part is named by its id, its source `ID.source`."""
    if any(name == PICTURE for name, _ in parts):
        raise BadRequest("name each part by the id of its image; one image alone goes to POST /images/ID")
    sources = {name: value for name, value in parts if name.endswith(SOURCE)}
    return [
        _item(image_id_from(name), value, sources.get(name + SOURCE))
        for name, value in parts
        if not name.endswith(SOURCE)
    ]


def _json_item(image: dict[str, Any]) -> NewImage | Failed:
    image_id = json_image_id(image.get("post_id"))
    text = image.get("hash")
    if not isinstance(text, str):
        return Failed(image_id, BadRequest("'hash' must be a string"))
    try:
        if_absent = is_flag_set(IF_ABSENT, image.get(IF_ABSENT))
    except BadRequest as error:
        return Failed(image_id, error)
    return _item(image_id, text, image.get("source"), if_absent=if_absent)


def _item(
    image_id: int, value: UploadFile | str, source: object, *, if_absent: bool = False
) -> NewImage | Failed:
    try:
        if source is not None and not isinstance(source, str):
            raise BadRequest("'source' must be a string")
        if source is not None:
            check_source(source)
        picture = value if isinstance(value, UploadFile) else codec.from_hash(value)
    except IqdbError as error:
        return Failed(image_id, error)
    return NewImage(image_id, picture, source or None, if_absent)


def _outcome_body(result: Outcome, dialect: Dialect) -> dict[str, Any]:
    match result:
        case Added():
            return {**added_body(result, dialect), "status": 200}
        case Queued():
            return {"post_id": result.image_id, "job_id": result.job_id, "status": 202}
        case Failed():
            return {
                "post_id": result.image_id,
                "message": message_of(result.error),
                "status": int(status_of(result.error)),
            }
