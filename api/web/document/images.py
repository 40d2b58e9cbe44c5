"""What `/openapi.json` says of adding, reading and deleting images, one or many."""

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
    IF_ABSENT,
    IMAGE_PROPERTIES,
    PREFER,
    SOURCE,
    URL_PARAMETER,
    WAIT,
    done,
    json_of,
    object_of,
    parameter,
    picture_body,
)

_JOB_ID: Final = {"type": "string"}
_QUEUED: Final[dict[str, Any]] = {
    "202": {
        "description": "Accepted; follow the job named by Location",
        "headers": {
            "Location": {
                "description": "The job to follow",
                "schema": {"type": "string", "example": "/jobs/0f3a..."},
            }
        },
        "content": json_of(object_of({"post_id": ID, "job_id": _JOB_ID, "state": {"const": "queued"}})),
    }
}

ADD: Final[dict[str, Any]] = {
    "parameters": [HASH_PARAMETER, parameter("source", SOURCE), WAIT, IF_ABSENT, PREFER, URL_PARAMETER],
    "requestBody": picture_body(
        {"hash": HASH, "source": SOURCE, "if_absent": {"type": "boolean"}},
        {"channels": CHANNELS, "hash": HASH, "source": SOURCE, "if_absent": {"type": ["boolean", "null"]}},
    ),
    "responses": done(json_of({"type": "object", "properties": {**IMAGE_PROPERTIES, "damaged": DAMAGED}}))
    | _QUEUED,
}
GET: Final[dict[str, Any]] = {
    "responses": done(json_of({"type": "object", "properties": {**IMAGE_PROPERTIES, "source": SOURCE}}))
}
DELETE: Final[dict[str, Any]] = {
    "responses": done(json_of({"type": "object", "properties": {"post_id": ID}})) | _QUEUED
}

_ITS_OWN: Final = {"description": "An error with this image is reported only in its outcome"}
_OUTCOMES: Final = object_of(
    {
        "images": {
            "type": "array",
            "items": object_of(
                {"post_id": ID, "status": {"type": "integer"}},
                {
                    "hash": {"type": "string"},
                    "signature": IMAGE_PROPERTIES["signature"],
                    "damaged": DAMAGED,
                    "job_id": _JOB_ID,
                    "message": {"type": "string"},
                },
            ),
        }
    }
)
ADD_MANY: Final[dict[str, Any]] = {
    "parameters": [WAIT, IF_ABSENT, PREFER],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "A part for each image, named by its id: a file, or a hash",
                    "propertyNames": {"pattern": "^[0-9]{1,19}([.]source)?$"},
                    "additionalProperties": BINARY,
                    "minProperties": 1,
                }
            },
            **json_of(
                object_of(
                    {
                        "images": {
                            "type": "array",
                            "items": object_of(
                                {"post_id": ID}, {"hash": _ITS_OWN, "source": _ITS_OWN, "if_absent": _ITS_OWN}
                            ),
                            "minItems": 1,
                            "maxItems": 1000,
                        }
                    },
                    {"if_absent": {"type": ["boolean", "null"]}},
                ),
                {"images": [{"post_id": 1, "hash": EXAMPLE_HASH}]},
            ),
        },
    },
    "responses": done(json_of(_OUTCOMES))
    | {"202": {"description": "Some are accepted and not done yet", "content": json_of(_OUTCOMES)}},
}

_IDS: Final = {"type": "array", "items": ID, "minItems": 1, "maxItems": 1000}
_JOBS: Final = {
    "type": "array",
    "items": {"type": "object", "properties": {"post_id": ID, "job_id": _JOB_ID}},
}
DELETE_MANY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": json_of({"oneOf": [_IDS, object_of({"post_ids": _IDS})]}, [1, 2, 3]),
    },
    "responses": done(
        json_of(object_of({"post_ids": {"type": "array", "items": ID}}), {"post_ids": [1, 2, 3]})
    )
    | {
        "202": {
            "description": "Accepted; `jobs` names those that are not done yet",
            "content": json_of(object_of({"post_ids": _IDS, "jobs": _JOBS})),
        },
    },
}
