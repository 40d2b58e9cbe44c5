"""Pictures of images: a thumbnail of the file, or a preview made from the signature.

Thin: parse, one call, render. Browsers cache them and revalidate with the ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.pictures.thumbnails import tag_of
from api.web.document.pictures import PREVIEW, PREVIEW_OF_HASH, THUMBNAIL
from api.web.errors import BadRequest, UnknownPage
from api.web.reading.requests import image_id_from
from api.web.services import services_of
from api.web.subjects.page import page_options_of
from iqdb_core import codec
from iqdb_core.model import Signature
from iqdb_core.signature.preview import preview_png

router: Final = APIRouter()

_FRESH_S: Final = 300
"""How long a browser may use its copy without asking; an image may be replaced under its id."""


@router.get("/images/{image_id}/preview.png", openapi_extra=PREVIEW, response_class=Response)
async def preview_of_image(request: Request, image_id: str) -> Response:
    """Show what the signature of a known image remembers, as a PNG of 128 x 128 pixels."""
    signature = await services_of(request).search.get(image_id_from(image_id))
    return await _preview(request, signature)


@router.get("/preview.png", openapi_extra=PREVIEW_OF_HASH, response_class=Response)
async def preview_of_hash(request: Request) -> Response:
    """Show what a hash remembers of its picture, as a PNG of 128 x 128 pixels."""
    text = request.query_params.get("hash")
    if text is None:
        raise BadRequest("give a 'hash'")
    return await _preview(request, codec.from_hash(text))


@router.get("/images/{image_id}/thumbnail", openapi_extra=THUMBNAIL, response_class=Response)
async def thumbnail_of_image(request: Request, image_id: str) -> Response:
    """Show a thumbnail of the file that an image came from, if it is in the operator's folder."""
    number = image_id_from(image_id)
    services, thumbnails = services_of(request), page_options_of(request).pictures
    source = await services.contents.source_of(number) if thumbnails is not None else None
    file = await thumbnails.find(source) if thumbnails is not None and source is not None else None
    if thumbnails is None or file is None:
        raise UnknownPage(f"there is no thumbnail of the image {number}")
    tag = tag_of(file)
    if is_known(request, tag):
        return Response(status_code=304, headers=cache_headers(tag))
    data = await thumbnails.thumbnail(file)
    if data is None:
        raise UnknownPage(f"there is no thumbnail of the image {number}")
    return Response(data, media_type="image/jpeg", headers=cache_headers(tag))


async def _preview(request: Request, signature: Signature) -> Response:
    tag = hashlib.blake2b(codec.to_bytes(signature), digest_size=12).hexdigest()
    if is_known(request, tag):
        return Response(status_code=304, headers=cache_headers(tag))
    data = await asyncio.to_thread(preview_png, signature)
    return Response(data, media_type="image/png", headers=cache_headers(tag))


def cache_headers(tag: str) -> dict[str, str]:
    """Return headers that let a browser cache a picture; `private`, because reading may need a token."""
    return {
        "ETag": f'"{tag}"',
        "Cache-Control": f"private, max-age={_FRESH_S}",
        "X-Content-Type-Options": "nosniff",
    }


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client already has the version with this tag."""
    known = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in {f'"{tag}"', "*"} for one in known.split(","))
