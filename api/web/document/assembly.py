"""`GET /openapi.json`: the framework's document, completed and corrected.

Each route passes its own description to its decorator (`openapi_extra`). This file adds what all routes
share: the error body under every possible status, rights, ids. It removes the framework's own 422, which is
never answered.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.access.rights import Right, right_for
from api.web.document.terms import EXAMPLE_HASH, ID, json_of

_RETRY: Final = {
    "Retry-After": {
        "description": "Seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_ERROR: Final = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "The reason, in a sentence"}},
    "required": ["message"],
}
_REASONS: Final = {
    "400": "The request is malformed",
    "401": "A token is needed, or the given one is unknown",
    "403": "The token has a lesser right",
    "404": "There is no such image or job",
    "408": "The body stopped in the middle",
    "409": "An image has the id already, or the database was put back to another state",
    "413": "More bytes or pixels than allowed",
    "422": "The bytes are no picture that is read, or a damaged one",
    "429": "Too many requests at once or from one caller, or the queue is full",
    "502": "The server that 'url' names gave no picture",
    "503": "Still starting, or the database, the queue or the query nodes are away",
    "500": "Something that only the operator can mend; the log says what",
}
_WITH_PICTURE: Final = frozenset({"/images/{image_id}", "/query"})
_INTRODUCTION: Final = """\
A reverse image search server that speaks the API of danbooru/iqdb and of e621's variant of it.

Two dialects share the paths: multipart forms and query strings (answers have `signature`), and JSON (they
have not). HEAD works where GET does; a trailing slash changes nothing. Every error is
`{"message": "..."}`. Whether a token is needed is the operator's choice: each operation names the right that
it asks for as `x-right`.
"""


def describe(app: FastAPI) -> None:
    """Make `app` answer with the completed document, which is built on first request."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title="iqdb-server", version=app.version, description=_INTRODUCTION, routes=app.routes
            )
            app.openapi_schema = completed(made)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def completed(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document whose operations all have the parts that they share."""
    document = copy.deepcopy(dict(made))
    document["components"] = {
        "schemas": {"Error": _ERROR},
        "responses": {status: _response(status, reason) for status, reason in _REASONS.items()},
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    }
    document["tags"] = []
    for method, path, operation in _operations(document):
        _complete(method, path, operation)
    tags = {operation["tags"][0] for _, _, operation in _operations(document)}
    document["tags"] = [{"name": tag} for tag in sorted(tags)]
    return document


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    operation["operationId"] = operation["summary"].lower().replace(" ", "_")
    if (method, path) == ("get", "/query"):
        operation["operationId"] = "query_by_hash"
    operation["tags"] = [path.split("/")[1] or "page"]
    right = right_for(method.upper(), path)
    if right is not Right.NONE:
        operation["x-right"] = right.name.lower()
        operation["security"] = [{"token": []}, {}]
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["name"] == "image_id":
            parameter["schema"] = ID
        # Tools would try the example of a parameter instead of that of the body.
        if parameter["name"] == "hash" and "requestBody" not in operation:
            parameter["example"] = EXAMPLE_HASH
    own = {status: answer for status, answer in operation["responses"].items() if status[0] in "23"}
    shared = {
        status: {"$ref": f"#/components/responses/{status}"} for status in _statuses(method, path, operation)
    }
    operation["responses"] = own | dict(sorted(shared.items()))


def _statuses(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the error statuses of an operation."""
    if path == "/live":
        return
    yield from ("429", "500", "503")
    has_body = "requestBody" in operation
    if has_body or operation.get("parameters"):
        yield "400"
    if right_for(method.upper(), path) is not Right.NONE:
        yield from ("401", "403")
    if has_body:
        yield from ("408", "413")
        if path in _WITH_PICTURE:
            yield from ("422", "502")
    if ("{" in path and method == "get") or path.startswith("/query"):
        yield "404"
    if path == "/changes" or (method, path) == ("post", "/images/{image_id}"):
        yield "409"


def _response(status: str, reason: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": reason,
        "content": json_of({"$ref": "#/components/schemas/Error"}),
    }
    if status in {"429", "503"}:
        response["headers"] = _RETRY
    if status == "401":
        response["headers"] = {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}
    return response
