"""A list of ids with files or hashes: CSV with a header line, or NDJSON. Read row by row, refused by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from api.roles.command_parts.reasons import reason_of
from iqdb_core import codec
from iqdb_core.codec import check_source
from iqdb_core.errors import ConfigError, InvalidHash, InvalidSource
from iqdb_core.model import MAX_IMAGE_ID, MAX_SOURCE_CHARACTERS

_ID_NAMES = ("id", "post_id", "image_id")
_FILE_NAMES = ("file", "path", "filename")
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Row:
    """One line: an id, a file (beside the list, unless it is absolute) or a hash, and where it came from."""

    image_id: int
    picture: Path | str
    source: str | None


def read_manifest(path: Path) -> Iterator[Row]:
    """Yield the rows of a list.

    Parameters
    ----------
    path : Path
        `.csv` with a header that names `id` (or `post_id`, `image_id`) and `file` (or `path`, `filename`) or
        `hash`, optionally `source`; `.ndjson` or `.jsonl` with objects of these keys. So exports are lists.

    Raises
    ------
    ConfigError
        A line that lacks one or says it wrongly; the message names the line. Or it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            numbered = _of_csv(text, path) if path.suffix.lower() == ".csv" else _of_json(text, path)
            for number, values in numbered:
                yield _row(values, path, number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no list of ids and files or hashes in UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {reason_of(error)}") from error


def is_image_id(text: str) -> bool:
    """Tell whether a text is an id: decimal digits, at most 2**63-1."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) <= MAX_IMAGE_ID


def _of_csv(text: TextIO, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text)
    reader.fieldnames = _header(reader.fieldnames, path)
    for values in reader:
        yield reader.line_num, values


def _of_json(text: TextIO, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, _object(line, path, number)


def _object(line: str, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}, line {number}: not JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}, line {number}: not an object")
    return value


def _row(values: Mapping[str, Any], path: Path, number: int) -> Row:
    image_id = _first(values, _ID_NAMES)
    file = _first(values, _FILE_NAMES)
    hash_text = _first(values, ("hash",))
    text = str(image_id).strip()
    if not is_image_id(text):
        raise ConfigError(f"{path}, line {number}: 'id' is a whole number of 0..{MAX_IMAGE_ID}")
    source = _first(values, ("source",))
    if source is not None and not _is_source(source):
        raise ConfigError(
            f"{path}, line {number}: 'source' is text of at most {MAX_SOURCE_CHARACTERS} characters"
        )
    if file is None and hash_text is not None:
        return Row(int(text), _hash(hash_text, path, number), source)
    if not isinstance(file, str):
        raise ConfigError(f"{path}, line {number}: 'file' names a file, or 'hash' is the hash of one")
    return Row(int(text), path.parent / file, source)


def _is_source(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        check_source(value)
    except InvalidSource:
        return False
    return True


def _hash(value: Any, path: Path, number: int) -> str:
    try:
        return codec.to_hash(codec.from_hash(str(value).strip()))
    except InvalidHash as error:
        raise ConfigError(f"{path}, line {number}: 'hash' is invalid: {error}") from error


def _header(names: Sequence[str] | None, path: Path) -> list[str]:
    """Return the names of the columns, as a reader compares them."""
    found = [name.strip().lower() for name in names or []]
    if not {*_ID_NAMES} & {*found} or not {*_FILE_NAMES, "hash"} & {*found}:
        raise ConfigError(
            f"{path}, line 1: a list begins with the names of its columns: id (or post_id),"
            " file (or path) or hash, and source if there is one"
        )
    return found


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)
