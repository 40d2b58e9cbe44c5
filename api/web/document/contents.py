"""The OpenAPI descriptions of the routes that tell all that is stored."""

from __future__ import annotations

from typing import Any, Final

_ID: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_SEQ: Final = {"type": "integer", "minimum": 0}
_SOURCE: Final = {"type": "string", "maxLength": 2000, "description": "Where it comes from, if that was told"}
_HASH: Final = {"type": "string", "pattern": "^iqdb_[0-9a-f]{528}$"}
_IDS: Final = {"type": "array", "items": _ID, "minItems": 1, "maxItems": 10000}
_MESSAGE: Final = {
    "application/json": {
        "schema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    }
}
_IMAGE: Final = {
    "type": "object",
    "properties": {"post_id": _ID, "hash": _HASH, "source": _SOURCE},
    "required": ["post_id", "hash"],
}


def _answers(content: dict[str, Any], *others: str) -> dict[str, Any]:
    error = {"description": "The reason, in words", "content": _MESSAGE}
    codes = ("400", "401", "403", "429", "503", *others)
    return {"200": {"description": "Done", "content": content}} | dict.fromkeys(codes, error)


def _json(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"application/json": {"schema": schema}}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


LIST: Final[dict[str, Any]] = {
    "parameters": [
        _parameter("after", _ID, "Only ids above it"),
        _parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}, "Most images"
        ),
    ],
    "responses": _answers(
        _json(
            {
                "images": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"post_id": _ID, "seq": _SEQ, "source": _SOURCE},
                        "required": ["post_id", "seq"],
                    },
                },
                "next": {"type": ["integer", "null"], "description": "`after` of the page that follows"},
            }
        )
    ),
}
MISSING: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _IDS,
                        {"type": "object", "properties": {"post_ids": _IDS}, "required": ["post_ids"]},
                    ]
                },
                "example": [1, 2, 3],
            }
        },
    },
    "responses": _answers(_json({"missing": {"type": "array", "items": _ID}}), "413"),
}
CHANGES: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "since",
            {"type": "string", "pattern": "^([0-9]{1,19}([.][0-9A-Za-z_-]{1,64})?)?$"},
            "`next` of the answer before; none begins at the beginning",
        ),
        _parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Most changes"
        ),
        _parameter(
            "wait_s",
            {"type": "integer", "minimum": 0, "maximum": 20, "default": 0},
            "How long to wait while there is nothing new, seconds",
        ),
    ],
    "responses": _answers(
        _json(
            {
                "changes": {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            {
                                **_IMAGE,
                                "properties": {"seq": _SEQ, **_IMAGE["properties"]},  # type: ignore[dict-item]
                                "required": ["seq", "post_id", "hash"],
                            },
                            {
                                "type": "object",
                                "properties": {"seq": _SEQ, "post_id": _ID, "deleted": {"const": True}},
                                "required": ["seq", "post_id", "deleted"],
                            },
                        ]
                    },
                },
                "next": {"type": "string", "description": "`since` of the request that follows"},
                "head_seq": _SEQ,
            }
        ),
        "409",
    ),
}
EXPORT: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "format", {"enum": ["ndjson", "sqlite", ""], "default": "ndjson"}, "Lines of JSON, or IQDB's file"
        )
    ],
    "responses": _answers(
        {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/vnd.sqlite3": {"schema": {"type": "string", "format": "binary"}},
        }
    ),
}
