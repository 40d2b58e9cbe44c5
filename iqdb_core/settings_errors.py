"""Error messages for options: what is allowed, and where the wrong value came from."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from pydantic.fields import FieldInfo

_EXPECTED: Final = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_BOUNDS: Final = (("gt", "above"), ("ge", "of at least"))


def sentence(error: Any, given: Mapping[str, Any], fields: Mapping[str, FieldInfo], prefix: str) -> str:
    """Return the sentence.

    Parameters
    ----------
    error : dict
        An error of pydantic.
    given : mapping
        Values from the command line; the others are from the environment.
    fields : mapping of str to FieldInfo
    prefix : str
        Of variables.
    """
    if not error["loc"]:
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    source = f"--{name.replace('_', '-')}" if name in given else f"{prefix}{name.upper()}"
    field = fields.get(name)
    if field is None:
        return f"{name} is no setting"
    if isinstance(field.annotation, type) and issubclass(field.annotation, Enum):
        choices = ", ".join(str(one.value) for one in field.annotation)
        return f"{source} must be one of {choices}, not {error['input']!r}"
    if error["type"] == "less_than_equal":
        return f"{source} must be at most {int(error['ctx']['le']):,}, not {error['input']!r}"
    if field.annotation is str:
        return f"{source} must be text in UTF-8, without control characters"  # never repeat a token
    kind = getattr(field.annotation, "__name__", "")
    bounds = [
        f" {word} {getattr(one, attribute):g}"
        for one in field.metadata
        for attribute, word in _BOUNDS
        if hasattr(one, attribute)
    ]
    return f"{source} must be {_EXPECTED[kind]}{''.join(bounds)}, not {error['input']!r}"
