"""What `/openapi.json` says of queries, one or many, the search for copies, and duplicates."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.terms import (
    BINARY,
    CHANNELS,
    DAMAGED,
    EXAMPLE_HASH,
    HASH,
    HASH_PARAMETER,
    ID,
    IMAGE_PROPERTIES,
    URL_PARAMETER,
    done,
    json_of,
    object_of,
    parameter,
    picture_body,
)

_NUMBER: Final = {"type": "number"}
_LIKELIHOOD: Final = {"type": "number", "minimum": 0, "maximum": 1}
_EXCLUDED: Final = {"type": "string", "pattern": r"^\d+(,\d+)*$"}
_WORDS: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
    "mode": {"type": "string", "enum": ["sketch"]},
    "min_score": _NUMBER,
    "find": {"type": "string", "enum": ["copies"]},
    "turns": {
        "type": "string",
        "enum": [f"{turn}{more}" for turn in ("none", "mirror", "all") for more in ("", ",negative")],
    },
    "offset": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "default": 0,
        "description": "While the index does not change, pages of one limit are parts of one list",
    },
    "exclude": _EXCLUDED,
    "min_likelihood": _LIKELIHOOD,
    "min_detail": _NUMBER,
}
"""Parameters of every query beside its picture, in the query string and in every kind of body."""
_WORDS_IN_JSON: Final = {
    **_WORDS,
    "exclude": {"anyOf": [_EXCLUDED, ID, {"type": "array", "items": ID, "maxItems": 1000}]},
}
_WORDS_IN_QUERY: Final = {
    **_WORDS,
    "exclude": {"type": "string", "pattern": "^([0-9]+(,[0-9]+)*)?$"},  # empty counts as absent
}
_MATCH: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        **IMAGE_PROPERTIES,
        "score": _NUMBER,
        "likelihood": {**_LIKELIHOOD, "description": "With find=copies or turns, as the three that follow"},
        "detail": {"type": "number", "minimum": 0},
        "turn": {"type": "string"},
        "part": {
            "type": "object",
            "properties": {name: {"type": "integer"} for name in ("x", "y", "width", "height")},
            "description": "The part of the query picture that matched, if it was not all of it",
        },
        "source": {"type": "string", "description": "With find=copies, turns or mode=sketch, if it is known"},
    },
}
_HEADERS: Final = {
    "X-Query-Detail": {
        "description": "The most evidence that the picture can give, bits; with find=copies or turns",
        "schema": _NUMBER,
    },
    "X-Query-Damaged": {
        "description": "Present only if a part of the picture was missing",
        "schema": {"const": "true"},
    },
}
_FOUND: Final = {
    "200": {
        "description": "Done",
        "content": json_of({"type": "array", "items": _MATCH}),
        "headers": _HEADERS,
    }
}

FIND_BY_GET: Final[dict[str, Any]] = {
    "parameters": [
        HASH_PARAMETER,
        parameter("post_id", ID),
        *(parameter(name, schema) for name, schema in _WORDS_IN_QUERY.items()),
    ],
    "responses": _FOUND,
}
FIND: Final[dict[str, Any]] = {
    "parameters": [*FIND_BY_GET["parameters"], URL_PARAMETER],
    "requestBody": picture_body(
        {"hash": HASH, "post_id": ID, **_WORDS},
        {"hash": HASH, "post_id": ID, "channels": CHANNELS, **_WORDS_IN_JSON},
    ),
    "responses": _FOUND,
}

# An error in one of these is reported in the outcome of each query.
_AS_OF_QUERY: Final = "As of /query"
QUERY_BATCH: Final[dict[str, Any]] = {
    "parameters": [parameter(name, {}, _AS_OF_QUERY) for name in _WORDS],
    "requestBody": {
        "required": True,
        "content": {
            **json_of(
                object_of(
                    {
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
                    {name: {"description": _AS_OF_QUERY} for name in _WORDS},
                ),
                {"queries": [{"hash": EXAMPLE_HASH}]},
            ),
            "multipart/form-data": {"schema": {"type": "object", "additionalProperties": BINARY}},
        },
    },
    "responses": done(
        json_of(
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
                                "detail": _NUMBER,
                                "damaged": DAMAGED,
                                "matches": {"type": "array", "items": _MATCH},
                            },
                        },
                    }
                },
            }
        )
    ),
}

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
        parameter("after", ID),
        parameter("min_likelihood", _LIKELIHOOD),
        parameter("min_detail", _NUMBER),
        parameter("min_score", _NUMBER),
    ],
    "responses": done(
        json_of(
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
        )
    ),
}
