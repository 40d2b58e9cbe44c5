"""The building blocks of descriptions of routes: ids, hashes, parameters, bodies, answers.

A route describes only what is special about it; `assembly` adds what all routes share (errors, rights, ids in
paths). Two dialects share a path and differ by Content-Type. The framework cannot derive that from a
function's signature, so bodies are written out.
"""

from __future__ import annotations

from typing import Any, Final

from iqdb_core.model import MAX_IMAGE_ID, MAX_SOURCE_CHARACTERS

Schema = dict[str, Any]

ID: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_IMAGE_ID}
HASH: Final[Schema] = {
    "type": "string",
    "description": "'iqdb_' and 528 hexadecimal digits, or the digits alone",
}
HASH_PATTERN: Final = "^((iqdb_)?[0-9a-fA-F]{528})?$"
"""For parameters, where an empty value counts as absent, because HTML forms send it."""
STRICT_HASH_PATTERN: Final = "^(iqdb_)?[0-9a-fA-F]{528}$"
EXAMPLE_HASH: Final = "iqdb_3fe4c6d513c538413fadbc7235383ab23f97674a40909b92" + "".join(
    f"{position:04x}" for _ in range(3) for position in range(1, 41)
)
"""A valid one: three averages, and the lowest forty positions in each channel."""
SOURCE: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_SOURCE_CHARACTERS,
    "description": "Where the image comes from: a name, path or page",
}
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
DAMAGED: Final[Schema] = {
    "const": True,
    "description": "Present only if a part of the picture was missing",
}
IMAGE_PROPERTIES: Final[dict[str, Schema]] = {
    "post_id": ID,
    "hash": HASH,
    "signature": {
        "type": "object",
        "properties": {
            "avglf": {"type": "array", "items": {"type": "number"}},
            "sig": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        },
        "description": "Not in answers to JSON requests",
    },
}
CHANNELS: Final[Schema] = {
    "type": "object",
    "properties": {
        name: {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
            "minItems": 16384,
            "maxItems": 16384,
        }
        for name in "rgb"
    },
}
_URL: Final[Schema] = {
    "type": "string",
    "maxLength": 2000,
    "description": "The address of the picture, in place of its bytes; only with IQDB_FETCH on",
}
_NULL: Final[Schema] = {"type": "null"}
_RAW: Final = ("application/octet-stream", "image/jpeg", "image/png")
_YES_OR_NO: Final = "^([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|0)?$"


def parameter(name: str, schema: Schema, description: str | None = None) -> dict[str, Any]:
    """Return an optional parameter of the query string."""
    extra = {} if description is None else {"description": description}
    return {"name": name, "in": "query", "required": False, "schema": schema, **extra}


HASH_PARAMETER: Final = parameter("hash", {"type": "string", "pattern": HASH_PATTERN})
URL_PARAMETER: Final = parameter("url", _URL)
WAIT: Final = parameter(
    "wait",
    {"type": "string", "pattern": _YES_OR_NO, "default": "true"},
    "Whether to answer only when the image is findable",
)
IF_ABSENT: Final = parameter(
    "if_absent",
    {"type": "string", "pattern": _YES_OR_NO, "default": "false"},
    "Replace no image: an id that has one is answered 409",
)
PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "example": "respond-async"},
    "description": "respond-async: answer 202 as soon as the image is durably accepted",
}


def object_of(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Schema:
    """Return the schema of an object with required and optional properties."""
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def json_of(schema: Schema, example: Any = None) -> dict[str, Any]:
    """Return content that is JSON."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def done(content: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a successful request."""
    return {"200": {"description": "Done", "content": content}}


def picture_body(form: dict[str, Schema], json: dict[str, Schema]) -> dict[str, Any]:
    """Return the body of a request about one picture: a form, JSON, or the picture as it is.

    Parameters
    ----------
    form, json : dict
        Properties beside the picture's `url`, in a form and in JSON.
    """
    multipart = {"type": "object", "properties": {"file": BINARY, **form, "url": _URL}}
    fields = {"type": "object", "properties": {**form, "url": _URL}}
    return {
        "required": False,
        "content": {
            "multipart/form-data": {"schema": multipart},
            "application/x-www-form-urlencoded": {"schema": fields},
            **json_of(_json_with_picture({**json, "url": _URL}), {"hash": EXAMPLE_HASH}),
            **{kind: {"schema": BINARY} for kind in _RAW},
        },
    }


def _json_with_picture(properties: dict[str, Schema]) -> Schema:
    """Return the schema of a JSON body; null counts as absent, because some serialisers send it."""
    properties = {**properties, "hash": {"type": "string", "pattern": STRICT_HASH_PATTERN}}
    # The first given one of these counts; an id excludes the others. It may be in the query string instead.
    names = [name for name in ("hash", "channels", "post_id") if name in properties]
    choices: list[dict[str, Any]] = [{"properties": dict.fromkeys(names, _NULL)}]
    for number, name in enumerate(names):
        absent = dict.fromkeys(names if name == "post_id" else names[:number], _NULL)
        if "post_id" in names:
            absent["post_id"] = _NULL
        choices.append({"properties": {**absent, name: properties.pop(name)}, "required": [name]})
    others = {name: {"anyOf": [schema, _NULL]} for name, schema in properties.items()}
    return {"type": "object", "properties": others, "anyOf": choices}
