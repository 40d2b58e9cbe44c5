"""A list of ids and files: CSV with a header line, or NDJSON. Read row by row, refused by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iqdb_core.errors import ConfigError
from iqdb_core.model import MAX_IMAGE_ID

_ID_NAMES = ("id", "post_id", "image_id")
_FILE_NAMES = ("file", "path", "filename")
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Row:
    """One line: an id, a file (beside the list, unless it is absolute), and where it came from."""

    image_id: int
    file: Path
    source: str | None


def read_manifest(path: Path) -> Iterator[Row]:
    """Yield the rows of a list.

    Parameters
    ----------
    path : Path
        `.csv` with a header that names `id` (or `post_id`) and `file` (or `path`), optionally `source`;
        `.ndjson` or `.jsonl` with objects of these keys.

    Raises
    ------
    ConfigError
        A line that lacks one or says it wrongly; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(text)
                for values in reader:
                    yield _row(values, path, reader.line_num)
            else:
                for number, line in enumerate(text, 1):
                    if line.strip():
                        yield _row(_object(line, path, number), path, number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no list of ids and files in UTF-8") from error


def is_image_id(text: str) -> bool:
    """Tell whether a text is an id: decimal digits, at most 2**63-1."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) <= MAX_IMAGE_ID


def _object(line: str, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{path}, line {number}: not JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}, line {number}: not an object")
    return value


def _row(values: Mapping[str, Any], path: Path, number: int) -> Row:
    image_id = _first(values, _ID_NAMES)
    file = _first(values, _FILE_NAMES)
    text = str(image_id).strip()
    if not is_image_id(text):
        raise ConfigError(f"{path}, line {number}: 'id' is a whole number of 0..{MAX_IMAGE_ID}")
    if not isinstance(file, str):
        raise ConfigError(f"{path}, line {number}: 'file' names a file")
    source = _first(values, ("source",))
    return Row(int(text), path.parent / file, None if source is None else str(source))


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)
