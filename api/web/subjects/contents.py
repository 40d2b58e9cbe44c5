"""Everything that is stored: which ids exist, which of these are missing, exports, changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from fastapi import APIRouter
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.contents.cursor import Cursor
from api.contents.reader import ContentsReader, line_of
from api.web.answers import WholeFile, json_response
from api.web.document.contents import CHANGES, EXPORT, LIST, MISSING
from api.web.errors import BadRequest
from api.web.reading.body import Body
from api.web.reading.parameters import parsed_json, query_parameters
from api.web.reading.requests import json_image_ids
from api.web.services import services_of
from iqdb_core.model import MAX_IMAGE_ID, ChangeBatch, Signature
from iqdb_core.temporary import TemporaryFolder

router: Final = APIRouter()

MAX_LISTED: Final = 10_000
DEFAULT_LISTED: Final = 1000
MAX_ASKED: Final = 10_000
MAX_ASKED_BYTES: Final = 512 * 1024
MAX_CHANGES: Final = 1000
DEFAULT_CHANGES: Final = 100
MAX_WAIT_S: Final = 20
"""Less than a stopping server gives requests in flight."""
NDJSON: Final = "application/x-ndjson"
SQLITE: Final = "application/vnd.sqlite3"


@router.get("/images", openapi_extra=LIST)
async def list_images(request: Request) -> Response:
    """Return the images above an id, ascending; `next` is the `after` of the page that follows."""
    params = query_parameters(request)
    after = params.integer("after", 0, MAX_IMAGE_ID)
    limit = params.integer("limit", 1, MAX_LISTED) or DEFAULT_LISTED
    found = await _contents(request).ids_after(-1 if after is None else after, limit)
    images = []
    for image in found:
        body: dict[str, Any] = {"post_id": image.image_id, "seq": image.seq}
        images.append(body if image.source is None else {**body, "source": image.source})
    following = found[-1].image_id if len(found) == limit else None
    return json_response({"images": images, "next": following})


@router.post("/images/missing", openapi_extra=MISSING)
async def missing_images(request: Request) -> Response:
    """Return those of the ids that have no image, in their order; they can then be added."""
    asked = json_image_ids(parsed_json(await Body(request).whole(MAX_ASKED_BYTES)), MAX_ASKED)
    missing = await _contents(request).missing(asked)
    return json_response({"missing": missing})


@router.get("/changes", openapi_extra=CHANGES)
async def list_changes(request: Request) -> Response:
    """Return what has changed since a cursor, oldest first; the latest state of each image, for mirrors."""
    params = query_parameters(request)
    cursor = Cursor.parse(params.text("since"))
    limit = params.integer("limit", 1, MAX_CHANGES) or DEFAULT_CHANGES
    wait_s = params.integer("wait_s", 0, MAX_WAIT_S) or 0
    batch, sources = await _contents(request).changes(cursor, limit, wait_s)
    feed = batch.feed
    if feed is None:
        raise AssertionError("a store always tells the state of its feed")
    body = {
        "changes": _change_bodies(batch, sources),
        "next": cursor.after(feed, batch.last_seq if len(batch) else None),
        "head_seq": feed.head_seq,
    }
    return json_response(body)


@router.get("/export", openapi_extra=EXPORT)
async def export(request: Request) -> Response:
    """Return every image as it is at this moment: a line of JSON each, or an SQLite file as IQDB's."""
    kind = query_parameters(request).text("format") or "ndjson"
    if kind not in {"ndjson", "sqlite"}:
        raise BadRequest("format must be ndjson or sqlite")
    media_type = SQLITE if kind == "sqlite" else NDJSON
    headers = {"Content-Disposition": f'attachment; filename="iqdb.{kind}"', "Cache-Control": "no-store"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    contents = _contents(request)
    if kind == "ndjson":
        lines = contents.export_lines()
        first = await anext(lines, b"")  # an early failure can still have its own status
        return StreamingResponse(_rest(first, lines), headers=headers, media_type=media_type)
    folder = TemporaryFolder("export")
    try:
        file = folder.path / "iqdb.sqlite"
        await contents.export_file(file)
    except BaseException:
        folder.close()
        raise
    return WholeFile(file, headers=headers, media_type=media_type, background=BackgroundTask(folder.close))


async def _rest(first: bytes, lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in lines:
            yield chunk
    finally:
        await lines.aclose()


def _change_bodies(batch: ChangeBatch, sources: dict[int, str]) -> list[dict[str, Any]]:
    bodies = []
    columns = (batch.seqs.tolist(), batch.image_ids.tolist(), batch.is_live.tolist(), batch.averages.tolist())
    for row, (seq, image_id, is_live, averages) in enumerate(zip(*columns, strict=True)):
        if is_live:
            signature = Signature(tuple(averages), batch.positions[row].astype("<i2").tobytes())
            bodies.append({"seq": seq, **line_of(image_id, signature, sources.get(image_id))})
        else:
            bodies.append({"seq": seq, "post_id": image_id, "deleted": True})
    return bodies


def _contents(request: Request) -> ContentsReader:
    return services_of(request).contents
