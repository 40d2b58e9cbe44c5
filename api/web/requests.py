"""Requests to values: the two dialects, read strictly.

Answers: what does this request ask for? Every doubt is a BadRequest with a sentence that helps; nothing is
guessed. Knows no index, store or queue. Called by the routes.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from api.ingestion.picture import Channels, Picture
from api.web.answers import Dialect
from api.web.errors import BadRequest
from api.web.raw_body import FORM_TYPE, is_picture_type, raw_upload, require_form
from iqdb_core import codec
from iqdb_core.errors import InvalidImageId
from iqdb_core.model import MAX_IMAGE_ID

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
MAX_FORM_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_ID_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Question:
    """A query: by picture, or by the id of a known image."""

    picture: Picture | int
    limit: int
    min_score: float | None


def dialect_of(request: Request) -> Dialect:
    """Tell the dialect by Content-Type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Dialect.E621 if kind == "application/json" else Dialect.DANBOORU


def image_id_from(text: str) -> int:
    """Parse an id: decimal digits, 0..2**63-1. Raises InvalidImageId."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS:
        value = int(text)
        if value <= MAX_IMAGE_ID:
            return value
    raise InvalidImageId(f"an id is a whole number of 0..{MAX_IMAGE_ID}")


@asynccontextmanager
async def picture_to_add(request: Request) -> AsyncIterator[Picture]:
    """Yield the picture of an add request; an uploaded file is closed afterwards."""
    if dialect_of(request) is Dialect.E621:
        body = await json_object(request)
        yield _json_picture(body, allow_id=False)
        return
    async with _form(request) as fields:
        yield _form_picture(fields)


@asynccontextmanager
async def question(request: Request) -> AsyncIterator[Question]:
    """Yield what a query asks; an uploaded file is closed afterwards."""
    if dialect_of(request) is Dialect.E621:
        body = await json_object(request)
        picture = _json_picture(body, allow_id=True)
        yield Question(
            picture,
            _json_limit(body.get("limit", request.query_params.get("limit"))),
            _json_score(body.get("min_score", request.query_params.get("min_score"))),
        )
        return
    async with _form(request) as fields:
        limit, min_score = fields.get("limit"), fields.get("min_score")
        image_id = fields.get("post_id")
        picture_or_id: Picture | int
        if image_id is not None:
            if fields.get("file") is not None or fields.get("hash") is not None:
                raise BadRequest("give one of 'file', 'hash' and 'post_id', not several")
            picture_or_id = image_id_from(_as_text(image_id, "post_id"))
        else:
            picture_or_id = _form_picture(fields)
        yield Question(
            picture_or_id,
            limit_from(None if limit is None else _as_text(limit, "limit")),
            min_score_from(None if min_score is None else _as_text(min_score, "min_score")),
        )


def limit_from(text: str | None) -> int:
    """Parse a limit: decimal digits, 1..1000; 10 where none is given."""
    if text is None:
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise BadRequest(f"limit is a whole number of 1..{MAX_LIMIT}")


def min_score_from(text: str | None) -> float | None:
    """Parse a least score: a finite number."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest("min_score is a number")
    return value


def wants_to_wait(request: Request) -> bool:
    """Tell whether to answer only when the work is done: `wait=false` or `Prefer: respond-async` says no."""
    text = request.query_params.get("wait", "")
    if text.lower() in {"false", "0", "no"}:
        return False
    if text.lower() not in {"", "true", "1", "yes"}:
        raise BadRequest("wait is true or false")
    preferences = request.headers.get("prefer", "").lower().replace(";", ",").split(",")
    return bool(text) or "respond-async" not in (item.strip() for item in preferences)


# --- the danbooru dialect: query string and form

Fields = dict[str, str | UploadFile]


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[Fields]:
    """Merge query string and form; empty values count as absent, as HTML forms send them."""
    fields: Fields = {}
    _merge(fields, request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_picture_type(kind) or not kind:
        async with raw_upload(request) as upload:
            if upload is not None:
                fields["file"] = upload
            yield fields
        return
    if kind == FORM_TYPE:
        await require_form(request)
    if kind in {"multipart/form-data", FORM_TYPE}:
        async with request.form(
            max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES
        ) as form:
            _merge(fields, _items(form))
            yield fields
        return
    if await request.body():
        raise BadRequest(f"a body of type {kind!r} is not understood; send a form, JSON or a picture")
    yield fields


def _items(form: FormData) -> list[tuple[str, str | UploadFile]]:
    return list(form.multi_items())


def _merge(fields: Fields, items: list[tuple[str, str]] | list[tuple[str, str | UploadFile]]) -> None:
    seen: set[str] = set()
    for name, value in items:
        if isinstance(value, str) and not value:
            continue
        if name in seen:
            raise BadRequest(f"{name!r} is given more than once")
        seen.add(name)
        fields[name] = value


def _as_text(value: str | UploadFile, name: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{name!r} is a plain value, not a file")
    return value


def _form_picture(fields: Fields) -> Picture:
    upload, text = fields.get("file"), fields.get("hash")
    if upload is not None and text is not None:
        raise BadRequest("give 'file' or 'hash', not both")
    if text is not None:
        return codec.from_hash(_as_text(text, "hash"))
    if upload is None:
        raise BadRequest("give an image as multipart part 'file', or a 'hash'")
    if isinstance(upload, str):
        raise BadRequest("part 'file' has no filename: send it as a file")
    return upload


# --- the e621 dialect: a JSON object


async def json_object(request: Request) -> dict[str, Any]:
    """Parse the body as a JSON object. Raises BadRequest."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body is not JSON: {exc}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is a JSON object")
    return body


def _json_picture(body: dict[str, Any], *, allow_id: bool) -> Any:
    """Return the one picture (or id, where allowed) that the object names; null counts as absent."""
    names = ["hash", "channels", *(["post_id"] if allow_id else [])]
    given = [name for name in names if body.get(name) is not None]
    if len(given) != 1:
        raise BadRequest(f"give exactly one of {', '.join(names)}")
    value = body[given[0]]
    if given[0] == "hash":
        if not isinstance(value, str):
            raise BadRequest("hash is a string")
        return codec.from_hash(value)
    if given[0] == "post_id":
        return json_image_id(value)
    if not isinstance(value, dict):
        raise BadRequest("channels is an object with 'r', 'g' and 'b'")
    return Channels(value.get("r"), value.get("g"), value.get("b"))


def json_image_id(value: object) -> int:
    """Check an id that came as JSON. Raises InvalidImageId."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_IMAGE_ID:
        raise InvalidImageId(f"post_id is a whole number of 0..{MAX_IMAGE_ID}")
    return value


def _json_limit(value: object) -> int:
    if value is None or isinstance(value, str):
        return limit_from(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"limit is a whole number of 1..{MAX_LIMIT}")
    return limit_from(str(value))


def _json_score(value: object) -> float | None:
    if value is None or isinstance(value, str):
        return min_score_from(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest("min_score is a number")
    return float(value)
