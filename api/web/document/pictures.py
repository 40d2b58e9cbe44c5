"""What `/openapi.json` says of the routes that answer with a picture."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.terms import BINARY, HASH_PARAMETER


def _picture(kind: str) -> dict[str, Any]:
    return {
        "200": {"description": "The picture", "content": {kind: {"schema": BINARY}}},
        "304": {"description": "The client already has it, by If-None-Match"},
    }


PREVIEW: Final[dict[str, Any]] = {"responses": _picture("image/png")}
PREVIEW_OF_HASH: Final[dict[str, Any]] = {
    "parameters": [{**HASH_PARAMETER, "required": True}],
    "responses": _picture("image/png"),
}
THUMBNAIL: Final[dict[str, Any]] = {"responses": _picture("image/jpeg")}
