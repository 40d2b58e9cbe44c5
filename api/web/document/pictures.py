"""The OpenAPI descriptions of the routes that answer with a picture."""

from __future__ import annotations

from typing import Any, Final

_MESSAGE: Final = {
    "application/json": {"schema": {"type": "object", "properties": {"message": {"type": "string"}}}}
}


def _picture(kind: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    error = {"description": "The reason, in words", "content": _MESSAGE}
    return {
        "200": {"description": "The picture", "content": {kind: binary}},
        "304": {"description": "The one that the client has, by If-None-Match"},
        "4XX": error,
        "503": error,
    }


PREVIEW: Final[dict[str, Any]] = {"responses": _picture("image/png")}
PREVIEW_OF_HASH: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "hash",
            "in": "query",
            "required": True,
            "schema": {"type": "string", "pattern": "^(iqdb_)?[0-9a-fA-F]{528}$"},
        }
    ],
    "responses": _picture("image/png"),
}
THUMBNAIL: Final[dict[str, Any]] = {"responses": _picture("image/jpeg")}
