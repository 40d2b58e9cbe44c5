"""What `/openapi.json` says of the routes that read everything stored."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.terms import BINARY, ID, SOURCE, done, json_of, object_of, parameter

_SEQ: Final = {"type": "integer", "minimum": 0}
_SOURCE: Final = {**SOURCE, "description": "Where it comes from, if that is known"}
_HASH: Final = {"type": "string", "pattern": "^iqdb_[0-9a-f]{528}$"}
_IDS: Final = {"type": "array", "items": ID, "minItems": 1, "maxItems": 10000}

LIST: Final[dict[str, Any]] = {
    "parameters": [
        parameter("after", ID, "Only ids above it"),
        parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}, "Most images"
        ),
    ],
    "responses": done(
        json_of(
            object_of(
                {
                    "images": {
                        "type": "array",
                        "items": object_of({"post_id": ID, "seq": _SEQ}, {"source": _SOURCE}),
                    },
                    "next": {"type": ["integer", "null"], "description": "`after` of the page that follows"},
                }
            )
        )
    ),
}
MISSING: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": json_of({"oneOf": [_IDS, object_of({"post_ids": _IDS})]}, [1, 2, 3]),
    },
    "responses": done(json_of(object_of({"missing": {"type": "array", "items": ID}}))),
}
CHANGES: Final[dict[str, Any]] = {
    "parameters": [
        parameter(
            "since",
            {"type": "string", "pattern": "^([0-9]{1,19}([.][0-9A-Za-z_-]{1,64})?)?$"},
            "`next` of the answer before; none begins at the beginning",
        ),
        parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Most changes"
        ),
        parameter(
            "wait_s",
            {"type": "integer", "minimum": 0, "maximum": 20, "default": 0},
            "How long to wait while there is nothing new, seconds",
        ),
    ],
    "responses": done(
        json_of(
            object_of(
                {
                    "changes": {
                        "type": "array",
                        "items": {
                            "oneOf": [
                                object_of({"seq": _SEQ, "post_id": ID, "hash": _HASH}, {"source": _SOURCE}),
                                object_of({"seq": _SEQ, "post_id": ID, "deleted": {"const": True}}),
                            ]
                        },
                    },
                    "next": {"type": "string", "description": "`since` of the request that follows"},
                    "head_seq": _SEQ,
                }
            )
        )
    ),
}
EXPORT: Final[dict[str, Any]] = {
    "parameters": [
        parameter(
            "format", {"enum": ["ndjson", "sqlite", ""], "default": "ndjson"}, "Lines of JSON, or IQDB's file"
        )
    ],
    "responses": done(
        {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/vnd.sqlite3": {"schema": BINARY},
        }
    ),
}
