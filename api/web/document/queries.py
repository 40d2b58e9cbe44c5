"""The OpenAPI descriptions of the search for copies, of batches of queries, and of duplicates."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.batches import EXAMPLE_HASH
from api.web.document.images import (
    BODY_OF_QUERY,
    BY_ID_OR_HASH,
    DAMAGED,
    EACH_QUERY,
    IMAGE_PROPERTIES,
    answers,
    query_parameter,
)

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
            "description": "Where in the picture of the query, if not all of it",
        },
        "source": {"type": "string", "description": "With find=copies, turns or mode=sketch, if it is known"},
    },
}
_LISTED: Final = {"type": "array", "items": ID, "maxItems": 1000}


def _body_with_words() -> dict[str, Any]:
    """Return the body of a query with all that it may say: the names of the query string are its own, too."""
    said = {one["name"]: one["schema"] for one in (*EACH_QUERY, *COPIES_PARAMETERS)}
    content = {}
    for kind, described in BODY_OF_QUERY["content"].items():
        properties = {**described["schema"]["properties"], **said}
        if kind == "application/json":
            properties["exclude"] = {"anyOf": [said["exclude"], ID, _LISTED]}
        content[kind] = {"schema": {"type": "object", "properties": properties}}
    return {**BODY_OF_QUERY, "content": content}


def _answers_of_query() -> dict[str, Any]:
    found = answers({"type": "array", "items": _MATCH})
    found["200"]["headers"] = {
        "X-Query-Detail": {
            "description": "Bits of evidence that the picture can give at most; with find=copies or turns",
            "schema": {"type": "number"},
        },
        "X-Query-Damaged": {
            "description": "A part of the picture was missing; there only where one was",
            "schema": {"const": "true"},
        },
    }
    return found


FIND: Final[dict[str, Any]] = {
    "parameters": [*BY_ID_OR_HASH, *EACH_QUERY, *COPIES_PARAMETERS],
    "requestBody": _body_with_words(),
    "responses": _answers_of_query(),
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
                        },
                        # What is wrong with one is told in the outcome of each query.
                        **{
                            one["name"]: {"description": "As of /query"}
                            for one in (*EACH_QUERY, *COPIES_PARAMETERS)
                        },
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
                            "damaged": DAMAGED,
                            "matches": {"type": "array", "items": _MATCH},
                        },
                    },
                }
            },
        }
    ),
}
