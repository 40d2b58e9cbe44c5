"""Many images in one request: each has its own outcome, and none spoils the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api.ingestion.interface import Added, Failed, Outcome, Queued
from api.ingestion.picture import Picture
from api.web.answers import Dialect, image_body, json_response
from api.web.body import Body
from api.web.errors import BadRequest, status_of
from api.web.multipart import form_items
from api.web.parameters import FORM, MULTIPART, content_kind, json_object, parsed_json
from api.web.requests import image_id_from, json_image_id, wants_to_wait
from api.web.services import services_of
from iqdb_core import codec
from iqdb_core.errors import IqdbError

router: Final = APIRouter()

MAX_BATCH: Final = 1000
MAX_IDS_BYTES: Final = 64 * 1024
"""A list of 1,000 ids takes a third of it."""

Items = list[tuple[int, Picture | IqdbError]]


@router.post("/images")
async def add_images(request: Request) -> Response:
    """Add or replace up to 1,000 images; each part is named by its id, and each has its own outcome."""
    wait = wants_to_wait(request)
    async with _batch(request) as (dialect, items):
        good = [(image_id, picture) for image_id, picture in items if not isinstance(picture, IqdbError)]
        outcomes = iter(await services_of(request).ingestion.add_many(good, wait=wait))
        results: list[Outcome] = [
            Failed(image_id, picture) if isinstance(picture, IqdbError) else next(outcomes)
            for image_id, picture in items
        ]
    status = 202 if any(isinstance(result, Queued) for result in results) else 200
    return json_response({"images": [_outcome_body(result, dialect) for result in results]}, status=status)


@router.delete("/images")
async def delete_images(request: Request) -> Response:
    """Delete up to 1,000 images, given as a JSON list of ids or as {"post_ids": [...]}."""
    body = parsed_json(await Body(request).whole(MAX_IDS_BYTES))
    values = body.get("post_ids") if isinstance(body, dict) else body
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_BATCH:
        raise BadRequest(f"give 1..{MAX_BATCH} ids as a JSON list, or as 'post_ids' of an object")
    image_ids = [json_image_id(value) for value in values]
    late = await services_of(request).ingestion.delete(list(dict.fromkeys(image_ids)))
    if not late:
        return json_response({"post_ids": image_ids})
    jobs = [{"post_id": one.image_id, "job_id": one.job_id} for one in late]
    return json_response({"post_ids": image_ids, "jobs": jobs}, status=202)


@asynccontextmanager
async def _batch(request: Request) -> AsyncIterator[tuple[Dialect, Items]]:
    """Yield the ids and pictures of a batch; a part that is at fault alone stands there as its error."""
    body = Body(request)
    kind = content_kind(request)
    first = await body.first()
    if kind == MULTIPART and first.lstrip()[:1] != b"{":
        limits = {"max_files": MAX_BATCH, "max_fields": MAX_BATCH, "max_field_bytes": 4096}
        async with form_items(body, request.headers["content-type"], **limits) as parts:
            items = [(image_id_from(name), _part(value)) for name, value in parts]
            yield Dialect.DANBOORU, _checked(items)
        return
    if not first or (kind == FORM and first.lstrip()[:1] != b"{"):
        raise BadRequest("send multipart/form-data with a part for each image, or application/json")
    images = (await json_object(body)).get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise BadRequest("give 'images' as a list of objects with 'post_id' and 'hash'")
    yield Dialect.E621, _checked([_json_item(image) for image in images])


def _checked(items: Items) -> Items:
    if not 1 <= len(items) <= MAX_BATCH:
        raise BadRequest(f"a batch has 1..{MAX_BATCH} images")
    if len({image_id for image_id, _ in items}) != len(items):
        raise BadRequest("a batch names an id more than once")
    return items


def _json_item(image: dict[str, Any]) -> tuple[int, Picture | IqdbError]:
    image_id = json_image_id(image.get("post_id"))
    text = image.get("hash")
    return image_id, _part(text) if isinstance(text, str) else BadRequest("'hash' is a string")


def _part(value: UploadFile | str) -> Picture | IqdbError:
    if isinstance(value, UploadFile):
        return value
    try:
        return codec.from_hash(value)
    except IqdbError as error:
        return error


def _outcome_body(result: Outcome, dialect: Dialect) -> dict[str, Any]:
    match result:
        case Added():
            return {**image_body(result.image_id, result.signature, dialect), "status": 200}
        case Queued():
            return {"post_id": result.image_id, "job_id": result.job_id, "status": 202}
        case Failed():
            return {
                "post_id": result.image_id,
                "message": str(result.error),
                "status": int(status_of(result.error)),
            }
