"""Values to JSON bodies, in the two dialects of the API.

Never reads a request and never touches the index. Called by the routes and the error handlers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import orjson
from starlette.responses import Response

from iqdb_core import codec
from iqdb_core.model import Match, Signature


class Dialect(Enum):
    """Whose API a request speaks; Content-Type tells (DESIGN section 9)."""

    DANBOORU = "danbooru"
    E621 = "e621"


def json_response(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `body` as application/json."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def hash_text(signature: Signature, dialect: Dialect) -> str:
    """Return the signature's text form as the dialect writes it: e621 leaves the prefix out."""
    return codec.to_hash(signature, prefix=dialect is Dialect.DANBOORU)


def image_body(image_id: int, signature: Signature, dialect: Dialect) -> dict[str, Any]:
    """Return the body that describes one image."""
    body: dict[str, Any] = {"post_id": image_id, "hash": hash_text(signature, dialect)}
    if dialect is Dialect.DANBOORU:
        body["signature"] = {
            "avglf": signature.averages,
            "sig": signature.signed_positions().tolist(),
        }
    return body


def match_bodies(matches: Sequence[Match], dialect: Dialect) -> list[dict[str, Any]]:
    """Return the body of a query's answer, best match first."""
    bodies = []
    for match in matches:
        body = image_body(match.image_id, match.signature, dialect)
        body["score"] = match.score
        bodies.append(body)
    return bodies
