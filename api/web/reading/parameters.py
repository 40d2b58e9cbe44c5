"""Reads the parameters of a request (query string, form or JSON) strictly into one mapping.

Two dialects share the paths. A body that begins with `{` is JSON whatever its Content-Type says, because some
clients send none or a wrong one. Any other body is a form or a bare picture. Knows no index, store or queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import UploadFile
from starlette.requests import Request

from api.ingestion.picture import spooled
from api.web.answers import Dialect
from api.web.errors import BadRequest
from api.web.reading.body import (
    FORM,
    JSON,
    MULTIPART,
    Body,
    begins_json,
    content_kind,
    is_picture_type,
    require_form,
)
from api.web.reading.multipart import PICTURE, read_form

MAX_FORM_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_JSON_BYTES: Final = 4 * 1024 * 1024
"""49,152 channel values take 0.2 MB, more with blanks; parsing much more would block the event loop."""


class Parameters:
    """Named values of one request.

    Values of a query string or form are text, those of JSON keep their type; a part with a file is an
    UploadFile. Empty text counts as absent, because HTML forms send it, except in JSON, where null does.

    Parameters
    ----------
    dialect : Dialect
    values : dict
    close : callable
        Closes the files among the values; called at the end of `with`.
    """

    def __init__(
        self, dialect: Dialect, values: dict[str, Any], close: Callable[[], None] | None = None
    ) -> None:
        self.dialect = dialect
        self._values = values
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        if self._close is not None:
            self._close()

    def get(self, name: str) -> Any:
        """Return a value unchanged, or None."""
        return self._values.get(name)

    def with_upload(self, upload: UploadFile) -> Parameters:
        """Return the same values, with this file as `file`."""
        return Parameters(self.dialect, {**self._values, PICTURE: upload}, upload.file.close)

    def text(self, name: str) -> str | None:
        """Return a plain value. Raises BadRequest for a file, a number, a list."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        kind = "a plain value, not a file" if isinstance(value, UploadFile) else "a string"
        raise BadRequest(f"{name!r} is {kind}")

    def integer(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number of `least` to `most`. Raises BadRequest."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            return _checked(name, _digits(value, most), least, most)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return _checked(name, value if is_whole else None, least, most)

    def number(self, name: str) -> float | None:
        """Return a finite number. Raises BadRequest."""
        value = self._values.get(name)
        if value is None:
            return None
        number = math.nan
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
        if not math.isfinite(number):
            raise BadRequest(f"{name} must be a number")
        return number


def query_values(request: Request) -> dict[str, Any]:
    """Return the values of the query string. Raises BadRequest for a repeated name."""
    raw: bytes = request.scope["query_string"]
    if not raw:
        return {}
    text = raw.decode("latin-1")
    if "%" in text or "+" in text or ";" in text:
        try:
            return _merged({}, _fields(text))
        except UnicodeDecodeError:
            raise BadRequest("the query string is not UTF-8") from None
    # Nothing is escaped, as in every query by hash: splitting is enough.
    pairs = (pair.partition("=") for pair in text.split("&"))
    return _merged({}, ((name, value) for name, _, value in pairs if name or value))


def query_parameters(request: Request) -> Parameters:
    """Return the parameters in the query string, for routes that read no body."""
    return Parameters(Dialect.DANBOORU, query_values(request))


async def parameters(request: Request) -> Parameters:
    """Return all parameters of a request; for `with`, which closes uploaded files."""
    values = query_values(request)
    body = Body(request)
    kind = content_kind(request.headers)
    first = await body.first()
    if first and (kind == JSON or begins_json(first)):
        values |= {name: value for name, value in (await json_object(body)).items() if value is not None}
        return Parameters(Dialect.E621, values)
    if not first:
        return Parameters(_dialect(kind), values)
    if kind == MULTIPART:
        limits = {"max_files": 1, "max_fields": MAX_FORM_FIELDS, "max_field_bytes": MAX_FIELD_BYTES}
        form = await read_form(body, request.headers["content-type"], **limits)
        try:
            return Parameters(Dialect.DANBOORU, _merged(values, form.items), form.close)
        except BadRequest:
            form.close()
            raise
    if kind == FORM:
        require_form(first)
        return Parameters(Dialect.DANBOORU, _merged(values, await _form_values(body)))
    if is_picture_type(kind) or not kind:
        return Parameters(Dialect.DANBOORU, values).with_upload(await spooled(body.chunks()))
    raise BadRequest(f"a body of type {kind!r} is not understood; send a form, JSON or a picture")


async def json_object(body: Body) -> dict[str, Any]:
    """Parse a body as a JSON object. Raises BadRequest."""
    value = parsed_json(await body.whole(MAX_JSON_BYTES))
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def parsed_json(data: bytes) -> Any:
    """Parse JSON. Raises BadRequest."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def dialect_of(request: Request) -> Dialect:
    """Return the dialect of a request without a body, by Content-Type."""
    return _dialect(content_kind(request.headers))


def _dialect(kind: str) -> Dialect:
    return Dialect.E621 if kind == JSON else Dialect.DANBOORU


async def _form_values(body: Body) -> list[tuple[str, str]]:
    data = await body.whole(MAX_FORM_FIELDS * MAX_FIELD_BYTES)
    try:
        return _fields(data.decode(), MAX_FORM_FIELDS)
    except ValueError:
        raise BadRequest(f"the form is not UTF-8, or has more than {MAX_FORM_FIELDS} fields") from None


def _fields(text: str, most: int | None = None) -> list[tuple[str, str]]:
    """Return names and values; raises ValueError for more than `most`, or for invalid UTF-8."""
    return parse_qsl(text, keep_blank_values=True, max_num_fields=most, errors="strict")


def _merged(values: dict[str, Any], items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Merge `items` over `values`; empty text counts as absent, a repeated name is refused."""
    seen: set[str] = set()
    for name, value in items:
        if value == "":
            continue
        if name in seen:
            raise BadRequest(f"{name!r} is given more than once")
        seen.add(name)
        values[name] = value
    return values


def _digits(text: str, most: int) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if is_number else None


def _checked(name: str, value: int | None, least: int, most: int) -> int:
    if value is None or not least <= value <= most:
        raise BadRequest(f"{name} must be a whole number from {least} to {most}")
    return value
