"""The OpenAPI descriptions of the routes, for `GET /openapi.json`.

Two dialects share a path and differ by Content-Type, which the framework cannot derive from a signature, so
it is written out here.
"""

from __future__ import annotations

from typing import Any, Final

_HASH: Final = {"type": "string", "description": "'iqdb_' and 528 hexadecimal digits, or the digits alone"}
_ID: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_PLANE: Final = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 255},
    "minItems": 16384,
    "maxItems": 16384,
}
_CHANNELS: Final = {"type": "object", "properties": {"r": _PLANE, "g": _PLANE, "b": _PLANE}}
MODE: Final = {"type": "string", "enum": ["sketch"]}
_FILE: Final = {"type": "string", "format": "binary"}
_IMAGE: Final = {
    "type": "object",
    "properties": {
        "post_id": _ID,
        "hash": _HASH,
        "signature": {
            "type": "object",
            "properties": {
                "avglf": {"type": "array", "items": {"type": "number"}},
                "sig": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            },
        },
    },
}
_MATCH: Final = {"type": "object", "properties": {**_IMAGE["properties"], "score": {"type": "number"}}}  # type: ignore[dict-item]
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}


def answers(schema: object, *, queued: bool = False) -> dict[str, Any]:
    """Return what a route may answer."""
    message = {"type": "object", "properties": {"message": {"type": "string"}}}
    error = {"description": "The reason, in words", "content": {"application/json": {"schema": message}}}
    answers: dict[str, Any] = {
        "200": {"description": "Done", "content": {"application/json": {"schema": schema}}},
        "4XX": error,
        "503": error,
    }
    if queued:
        answers["202"] = {"description": "Accepted; follow the job named by Location"}
    return answers


def _body(form: dict[str, Any], json: dict[str, Any], *, required: bool) -> dict[str, Any]:
    fields = {name: schema for name, schema in form.items() if schema is not _FILE}
    return {
        "required": required,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": form}},
            "application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": fields}},
            "application/json": {"schema": {"type": "object", "properties": json}},
        },
    }


def query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter of the query string that may be left out."""
    return {"name": name, "in": "query", "required": False, "schema": schema}


_WAIT: Final = query_parameter("wait", {"type": "boolean", "default": True})

ADD: Final[dict[str, Any]] = {
    "parameters": [query_parameter("hash", _HASH), _WAIT],
    "requestBody": _body(
        {"file": _FILE, "hash": _HASH}, {"channels": _CHANNELS, "hash": _HASH}, required=False
    ),
    "responses": answers(_IMAGE, queued=True),
}
GET: Final[dict[str, Any]] = {"responses": answers(_IMAGE)}
DELETE: Final[dict[str, Any]] = {
    "responses": answers({"type": "object", "properties": {"post_id": _ID}}, queued=True)
}
EACH_QUERY: Final = [
    query_parameter("limit", _LIMIT),
    query_parameter("mode", MODE),
    query_parameter("min_score", {"type": "number"}),
]
"""What every query may say."""
QUERY: Final[dict[str, Any]] = {
    "parameters": [
        query_parameter("hash", _HASH),
        query_parameter("post_id", _ID),
        *EACH_QUERY,
    ],
    "requestBody": _body(
        {"file": _FILE, "hash": _HASH, "post_id": _ID},
        {
            "hash": _HASH,
            "post_id": _ID,
            "channels": _CHANNELS,
            "limit": _LIMIT,
            "mode": MODE,
            "min_score": {"type": "number"},
        },
        required=False,
    ),
    "responses": answers({"type": "array", "items": _MATCH}),
}
STATUS: Final[dict[str, Any]] = {
    "responses": answers({"type": "object", "properties": {"images": {"type": "integer"}}})
}
