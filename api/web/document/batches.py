"""The OpenAPI descriptions of batches, jobs and health."""

from __future__ import annotations

from typing import Any, Final

from api.web.document.images import DAMAGED, IMAGE_PROPERTIES

ID: Final = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
HASH_PATTERN: Final = "^((iqdb_)?[0-9a-fA-F]{528})?$"
"""Of parameters, where an empty value counts as none, as HTML forms send them."""
STRICT_HASH_PATTERN: Final = "^(iqdb_)?[0-9a-fA-F]{528}$"
EXAMPLE_HASH: Final = "iqdb_3fe4c6d513c538413fadbc7235383ab23f97674a40909b92" + "".join(
    f"{position:04x}" for _ in range(3) for position in range(1, 41)
)
"""A valid one: three averages, and the lowest forty positions in each channel."""
_ITS_OWN: Final = {"description": "What is wrong with it is told in the outcome of this image alone"}
_JOB: Final = {
    "type": "object",
    "properties": {
        "job_id": {"type": "string"},
        "post_id": ID,
        "state": {"enum": ["queued", "running", "done", "failed"]},
        "reason": {"type": "string", "description": "Why it failed"},
        "hash": {"type": "string", "description": "Of a job that is done"},
        "damaged": DAMAGED,
    },
    "required": ["job_id", "post_id", "state"],
}
_QUEUED: Final = {"type": "object", "properties": {"post_id": ID, "job_id": {"type": "string"}}}
_IDS: Final = {"type": "array", "items": ID, "minItems": 1, "maxItems": 1000}


def json_of(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    """Return content that is JSON."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def _ok(content: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": "Done", "content": content}}


_OUTCOMES: Final = _object(
    {
        "images": {
            "type": "array",
            "items": _object(
                {"post_id": ID, "status": {"type": "integer"}},
                {
                    "hash": {"type": "string"},
                    "signature": IMAGE_PROPERTIES["signature"],
                    "damaged": DAMAGED,
                    "job_id": {"type": "string"},
                    "message": {"type": "string"},
                },
            ),
        }
    }
)
_YES_OR_NO: Final = "^([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|0)?$"
WAIT: Final = {
    "name": "wait",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "pattern": _YES_OR_NO, "default": "true"},
    "description": "Whether to answer only when the image is findable",
}
IF_ABSENT: Final = {
    "name": "if_absent",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "pattern": _YES_OR_NO, "default": "false"},
    "description": "Replace no image: an id that has one is answered 409",
}
ADD_MANY: Final[dict[str, Any]] = {
    "parameters": [WAIT, IF_ABSENT],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "A part for each image, named by its id: a file, or a hash",
                    "propertyNames": {"pattern": "^[0-9]{1,19}([.]source)?$"},
                    "additionalProperties": {"type": "string", "format": "binary"},
                    "minProperties": 1,
                }
            },
            "application/json": {
                "schema": _object(
                    {
                        "images": {
                            "type": "array",
                            "items": _object(
                                {"post_id": ID}, {"hash": _ITS_OWN, "source": _ITS_OWN, "if_absent": _ITS_OWN}
                            ),
                            "minItems": 1,
                            "maxItems": 1000,
                        }
                    },
                    {"if_absent": {"type": ["boolean", "null"]}},
                ),
                "example": {"images": [{"post_id": 1, "hash": EXAMPLE_HASH}]},
            },
        },
    },
    "responses": _ok(json_of(_OUTCOMES))
    | {"202": {"description": "Some are accepted and not done yet", "content": json_of(_OUTCOMES)}},
}
DELETE_MANY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": json_of({"oneOf": [_IDS, _object({"post_ids": _IDS})]}, [1, 2, 3]),
    },
    "responses": {
        **_ok(json_of(_object({"post_ids": {"type": "array", "items": ID}}), {"post_ids": [1, 2, 3]})),
        "202": {
            "description": "Accepted; `jobs` names those that are not done yet",
            "content": json_of(_object({"post_ids": _IDS, "jobs": {"type": "array", "items": _QUEUED}})),
        },
    },
}
JOB: Final[dict[str, Any]] = {"responses": _ok(json_of(_JOB))}
JOBS: Final[dict[str, Any]] = {
    "parameters": [
        {"name": "state", "in": "query", "schema": {"enum": ["queued", "running", "done", "failed", ""]}},
        {"name": "cursor", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]{0,19}$"}},
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        },
    ],
    "responses": _ok(
        json_of(_object({"jobs": {"type": "array", "items": _JOB}, "next": {"type": ["string", "null"]}}))
    ),
}
LIVE: Final[dict[str, Any]] = {"responses": _ok(json_of(_object({"live": {"const": True}})))}
READY: Final[dict[str, Any]] = {"responses": _ok(json_of(_object({"ready": {"const": True}})))}
METRICS: Final[dict[str, Any]] = {
    "responses": _ok({"text/plain": {"schema": {"type": "string"}}}),
}
