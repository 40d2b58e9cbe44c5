"""Interprets parameters as pictures, ids and flags; anything unclear is a BadRequest with advice.

`parameters` reads the values; this file gives them meaning. Called by the routes.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import UploadFile
from starlette.requests import Request

from api.ingestion.picture import Channels, Picture
from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters, query_values
from iqdb_core import codec
from iqdb_core.codec import check_source
from iqdb_core.errors import InvalidImageId
from iqdb_core.model import MAX_IMAGE_ID

MAX_ID_DIGITS: Final = 19
IF_ABSENT: Final = "if_absent"
"""The parameter that forbids replacing an image."""
_YES: Final = frozenset({"true", "1", "yes"})
_NO: Final = frozenset({"false", "0", "no"})


def image_id_from(text: str) -> int:
    """Parse an id: decimal digits, 0..2**63-1. Raises InvalidImageId."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS:
        value = int(text)
        if value <= MAX_IMAGE_ID:
            return value
    raise InvalidImageId(f"an id is a whole number of 0..{MAX_IMAGE_ID}")


def json_image_id(value: object) -> int:
    """Check an id from JSON. Raises InvalidImageId."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_IMAGE_ID:
        raise InvalidImageId(f"post_id is a whole number of 0..{MAX_IMAGE_ID}")
    return value


def json_image_ids(body: object, most: int) -> list[int]:
    """Return the ids of a body that is a list of them, or an object with such a list as `post_ids`.

    Raises
    ------
    BadRequest, InvalidImageId
        There is no such list, it has no or more than `most` entries, or an entry is no id.
    """
    values = body.get("post_ids") if isinstance(body, dict) else body
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise BadRequest(f"give 1..{most} ids as a JSON list, or as 'post_ids' of an object")
    return [json_image_id(value) for value in values]


def picture_or_id_of(params: Parameters) -> Picture | int:
    """Return the picture of a query, or the id of the known image that it names instead."""
    image_id = params.get("post_id")
    if image_id is None:
        return picture_of(params)
    if any(params.get(name) is not None for name in ("file", "hash", "channels")):
        raise BadRequest("give one of 'file', 'channels', 'hash' and 'post_id', not several")
    return image_id_from(image_id) if isinstance(image_id, str) else json_image_id(image_id)


def picture_of(params: Parameters) -> Picture:
    """Return the picture of a request. A hash takes precedence over a file beside it, as in IQDB."""
    text = params.text("hash")
    if text is not None:
        return codec.from_hash(text)
    upload, channels = params.get("file"), params.get("channels")
    if isinstance(upload, UploadFile):
        return upload
    if isinstance(channels, dict):
        return Channels(channels.get("r"), channels.get("g"), channels.get("b"))
    if channels is not None:
        raise BadRequest("channels must be an object with 'r', 'g' and 'b'")
    if upload is not None:
        raise BadRequest("'file' must be a part of a multipart/form-data body, not a plain value")
    raise BadRequest("give an image as multipart part 'file', or 'channels' as JSON, or a 'hash'")


def source_of(params: Parameters) -> str | None:
    """Return the source that a request gives, if any. Raises InvalidSource if it is too long."""
    text = params.text("source")
    if text is not None:
        check_source(text)
    return text


def is_flag_set(name: str, value: object) -> bool:
    """Return whether a flag is true, given as text or as JSON; an absent one is false.

    Raises
    ------
    BadRequest
        Neither true nor false.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    text = value.lower() if isinstance(value, str) else None
    if text in _YES or text in _NO:
        return text in _YES
    raise BadRequest(f"{name} must be true or false")


def wants_to_wait(request: Request) -> bool:
    """Return whether to answer only after the work: `wait=false` or `Prefer: respond-async` say no."""
    text = str(query_values(request).get("wait", ""))
    if text:
        return is_flag_set("wait", text)
    preferences = request.headers.get("prefer", "").lower().replace(";", ",").split(",")
    return "respond-async" not in (item.strip() for item in preferences)
