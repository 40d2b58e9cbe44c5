"""The OpenAPI descriptions of the routes, for `GET /openapi.json`.

Two dialects share a path and differ by Content-Type, which the framework cannot derive from a signature, so
it is written out here.
"""

from __future__ import annotations

from typing import Any, Final

from iqdb_core.following import FollowerState
from iqdb_core.model import MAX_SOURCE_CHARACTERS

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
_SOURCE: Final = {
    "type": "string",
    "maxLength": MAX_SOURCE_CHARACTERS,
    "description": "Where the image comes from: a name, path or page",
}
IMAGE_PROPERTIES: Final[dict[str, Any]] = {
    "post_id": _ID,
    "hash": _HASH,
    "signature": {
        "type": "object",
        "properties": {
            "avglf": {"type": "array", "items": {"type": "number"}},
            "sig": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        },
        "description": "Not in answers to JSON",
    },
}
DAMAGED: Final[dict[str, Any]] = {
    "const": True,
    "description": "A part of the picture was missing; there only where one was",
}
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
_IF_ABSENT: Final = query_parameter("if_absent", {"type": "boolean", "default": False})

ADD: Final[dict[str, Any]] = {
    "parameters": [query_parameter("hash", _HASH), query_parameter("source", _SOURCE), _WAIT, _IF_ABSENT],
    "requestBody": _body(
        {"file": _FILE, "hash": _HASH, "source": _SOURCE, "if_absent": {"type": "boolean"}},
        {"channels": _CHANNELS, "hash": _HASH, "source": _SOURCE, "if_absent": {"type": ["boolean", "null"]}},
        required=False,
    ),
    "responses": answers(
        {"type": "object", "properties": {**IMAGE_PROPERTIES, "damaged": DAMAGED}}, queued=True
    ),
}
GET: Final[dict[str, Any]] = {
    "responses": answers({"type": "object", "properties": {**IMAGE_PROPERTIES, "source": _SOURCE}})
}
DELETE: Final[dict[str, Any]] = {
    "responses": answers({"type": "object", "properties": {"post_id": _ID}}, queued=True)
}
EACH_QUERY: Final = [
    query_parameter("limit", _LIMIT),
    query_parameter("mode", MODE),
    query_parameter("min_score", {"type": "number"}),
]
"""What every query may say."""
BODY_OF_QUERY: Final = _body(
    {"file": _FILE, "hash": _HASH, "post_id": _ID},
    {"hash": _HASH, "post_id": _ID, "channels": _CHANNELS},
    required=False,
)
"""The picture of a query; what else it may say is beside it in every kind of body."""
BY_ID_OR_HASH: Final = [query_parameter("hash", _HASH), query_parameter("post_id", _ID)]
STATUS: Final[dict[str, Any]] = {
    "responses": answers(
        {
            "type": "object",
            "properties": {
                "images": {"type": "integer"},
                **{name: {"type": "integer"} for name in ("applied_seq", "head_seq", "lag_seq")},
                "follower": {"enum": [state.value for state in FollowerState]},
                "maintenance": {
                    "type": "object",
                    "properties": {"state": {"type": "string"}, "message": {"type": "string"}},
                },
                "checkpoint": {
                    "type": "object",
                    "properties": {
                        "seq": {"type": "integer"},
                        "age_s": {"type": "integer"},
                        "refused": {"type": "string"},
                    },
                },
                **{
                    name: {"type": "string"}
                    for name in ("store_error", "disk_error", "write_error", "restarted")
                },
                "nodes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"url": {"type": "string"}, "state": {"type": "string"}},
                        "additionalProperties": True,
                    },
                    "description": "What each query node says of itself",
                },
                "store_id": {"type": "string"},
                "queue": {
                    "type": "object",
                    "properties": {
                        "state": {"enum": ["ready", "refuses", "away"]},
                        "message": {"type": "string"},
                        **{
                            name: {"type": "integer"}
                            for name in ("queued", "interactive", "running", "failed", "bytes")
                        },
                        "oldest_s": {"type": "number"},
                    },
                },
                "workers": {
                    "type": "object",
                    "additionalProperties": {"type": "number"},
                    "description": "Seconds since each was last heard of, by name",
                },
                "version": {"type": "string"},
                "uptime_s": {"type": "integer"},
            },
        }
    )
}
