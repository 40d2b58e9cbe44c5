"""Values to JSON bodies, in the two dialects of the API.

Never reads a request and never touches the index. Called by the routes and the error handlers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from api.ingestion.interface import Added
from iqdb_core import codec
from iqdb_core.model import Match, Signature

_OF_A_PART: Final = frozenset({b"range", b"if-range"})


class Dialect(Enum):
    """The dialect of a request, known by the type of its body."""

    DANBOORU = "danbooru"
    E621 = "e621"


class JsonResponse(Response):
    """A response whose body is JSON already, with its headers written directly.

    Parameters
    ----------
    body : bytes
    status : int
    headers : mapping of str to str, optional
    """

    def __init__(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        # Not the base's constructor, whose generic work would be a large part of an answer's few
        # microseconds.
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        for name, value in (headers or {}).items():
            self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))


class WholeFile(FileResponse):
    """A file that is always sent whole, without support for ranges.

    Every answer has a new file, so ranges of two answers would not fit together. And the base class answers
    an invalid range with a body that is not JSON.

    Parameters
    ----------
    path : Path
    others
        As of `FileResponse`.
    """

    def __init__(self, path: Path, **others: Any) -> None:
        super().__init__(path, **others)
        self.headers["Accept-Ranges"] = "none"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_A_PART]
        await super().__call__({**scope, "headers": headers}, receive, send)


def json_response(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `body` as application/json; arrays in it become lists."""
    return JsonResponse(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, headers)


def image_body(image_id: int, signature: Signature, dialect: Dialect) -> dict[str, Any]:
    """Return the body that describes one image."""
    (body,) = _image_bodies([(image_id, signature)], dialect)
    return body


def added_body(added: Added, dialect: Dialect) -> dict[str, Any]:
    """Return the body that says an image was added; it mentions damage only if there is any."""
    body = image_body(added.image_id, added.signature, dialect)
    return body | {"damaged": True} if added.is_damaged else body


def named_source(sources: Mapping[int, str], image_id: int) -> dict[str, str]:
    """Return the field of a body with an image's source, nothing if that is not known."""
    return {"source": sources[image_id]} if image_id in sources else {}


def match_bodies(
    matches: Sequence[Match], dialect: Dialect, sources: Mapping[int, str] | None = None
) -> list[dict[str, Any]]:
    """Return the body of a query's answer, best match first; answers in IQDB's form have no `sources`."""
    bodies = _image_bodies([(match.image_id, match.signature) for match in matches], dialect)
    for body, match in zip(bodies, matches, strict=True):
        body["score"] = match.score
        if sources:
            body.update(named_source(sources, match.image_id))
    return bodies


def _image_bodies(images: Sequence[tuple[int, Signature]], dialect: Dialect) -> list[dict[str, Any]]:
    """Return the bodies of several images, made together because that costs a fraction."""
    signatures = [signature for _, signature in images]
    hashes = codec.to_hashes(signatures, prefix=dialect is Dialect.DANBOORU)
    bodies: list[dict[str, Any]] = [
        {"post_id": image_id, "hash": text} for (image_id, _), text in zip(images, hashes, strict=True)
    ]
    if dialect is Dialect.DANBOORU:
        positions = codec.positions_of(signatures)
        for body, signature, one in zip(bodies, signatures, positions, strict=True):
            body["signature"] = {"avglf": signature.averages, "sig": one}
    return bodies
