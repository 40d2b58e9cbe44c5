"""The OpenAPI descriptions of the search for copies, of batches of queries, and of duplicates."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.openapi import EACH_QUERY, QUERY, answers, query_parameter
from api.web.document.openapi_more import EXAMPLE_HASH

ID: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_NUMBER: Final = {"type": "number"}
_LIKELIHOOD: Final = {"type": "number", "minimum": 0, "maximum": 1}

COPIES_PARAMETERS: Final = [
    query_parameter("find", {"type": "string", "enum": ["copies"]}),
    query_parameter(
        "turns",
        {
            "type": "string",
            "enum": [f"{turn}{more}" for turn in ("none", "mirror", "all") for more in ("", ",negative")],
        },
    ),
    query_parameter("offset", {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 0}),
    query_parameter("exclude", {"type": "string", "pattern": r"^\d+(,\d+)*$"}),
    query_parameter("min_likelihood", _LIKELIHOOD),
    query_parameter("min_detail", _NUMBER),
]
COPY_PROPERTIES: Final[dict[str, Any]] = {
    "likelihood": _LIKELIHOOD,
    "detail": {"type": "number", "minimum": 0},
    "turn": {"type": "string"},
    "part": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in ("x", "y", "width", "height")},
    },
    "source": {"type": "string"},
}
FIND: Final[dict[str, Any]] = {**QUERY, "parameters": [*QUERY["parameters"], *COPIES_PARAMETERS]}
"""`QUERY` with the words of a search for copies."""
_PAIR: Final = {
    "type": "object",
    "properties": {
        "post_ids": {"type": "array", "items": ID, "minItems": 2, "maxItems": 2},
        "likelihood": _LIKELIHOOD,
        "score": _NUMBER,
    },
}
DUPLICATES: Final[dict[str, Any]] = {
    "parameters": [
        query_parameter("after", ID),
        query_parameter("min_likelihood", _LIKELIHOOD),
        query_parameter("min_detail", _NUMBER),
        query_parameter("min_score", _NUMBER),
    ],
    "responses": answers(
        {
            "type": "object",
            "properties": {
                "groups": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "post_ids": {"type": "array", "items": ID, "minItems": 2},
                            "pairs": {"type": "array", "items": _PAIR},
                            "truncated": {"type": "boolean"},
                        },
                    },
                },
                "looked_at": {"type": "integer"},
                "next": {"anyOf": [ID, {"type": "null"}]},
            },
        }
    ),
}
QUERY_BATCH: Final[dict[str, Any]] = {
    "parameters": [*EACH_QUERY, *COPIES_PARAMETERS],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "queries": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 100,
                            "items": {
                                "type": "object",
                                "description": "By id, hash or channels; each has its own outcome",
                            },
                        }
                    },
                    "required": ["queries"],
                },
                "example": {"queries": [{"hash": EXAMPLE_HASH}]},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "format": "binary"},
                }
            },
        },
    },
    "responses": answers(
        {
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "status": {"type": "integer"},
                            "message": {"type": "string"},
                            "detail": {"type": "number"},
                            "damaged": {"type": "boolean"},
                            "matches": {"type": "array", "items": {"type": "object"}},
                        },
                    },
                }
            },
        }
    ),
}
