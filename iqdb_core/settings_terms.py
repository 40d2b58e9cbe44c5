"""The building blocks of options: roles, groups, and a function that makes a field.

Called by `settings`, which is the list of options.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from pydantic import Field

FRONT_ENDS: Final = ("http", "api")
INDEXES: Final = ("http", "query")
DISTRIBUTED: Final = ("api", "query", "worker")
WORKER: Final = ("worker",)
SERVERS: Final = ("http", "api", "query")
ROLES: Final = ("http", "api", "query", "worker", "upgrade", "migrate")
COMMANDS: Final = "commands"
"""Stands for all commands that are no roles: `add`, `search` and so on."""

MOST: Final = 2**53 - 1
"""Largest integer that scripts in Redis and browsers represent exactly."""
MOST_S: Final = 1_000_000_000
"""About thirty years: longer than any timeout needs to be."""


class LogLevel(StrEnum):
    """The lowest level of records that are logged to standard error."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @classmethod
    def _missing_(cls, value: object) -> LogLevel | None:
        """Take a level in capitals, as other programs write it."""
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None


class Group(StrEnum):
    """The subject of an option: a heading in help and documents."""

    PLACES = "Places"
    LIMITS = "Limits"
    ACCESS = "Who may do what"
    PAGE = "The page"
    FETCH = "Fetching by address"
    INDEX = "The index"
    QUEUE = "The queue"
    WORKER = "Workers"
    LOG = "The log"


def option(
    default: Any,
    text: str,
    roles: Iterable[str],
    group: Group,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    shown: str | None = None,
    alias: str | None = None,
) -> Any:
    """Return the field of an option.

    Parameters
    ----------
    default : Any
    text : str
        Its description for help and documents, with the unit.
    roles : iterable of str
        The roles that have it.
    group : Group
    above, at_least, at_most : float, optional
        Bounds of a number: exclusive, inclusive and inclusive. Every number has an upper bound: beyond `MOST`
        (with a fraction: `MOST_S`) clocks, Redis or a browser fail.
    shown : str, optional
        How documents show the default, if the bare value would mislead.
    alias : str, optional
        A second name on the command line.
    """
    extra: dict[str, Any] = {"roles": tuple(roles), "group": group, "shown": shown, "alias": alias}
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    may_be_infinite = False if isinstance(default, float) else None
    if at_most is None and is_number:
        at_most = MOST if isinstance(default, int) else MOST_S
    return Field(
        default,
        description=text,
        gt=above,
        ge=at_least,
        le=at_most,
        allow_inf_nan=may_be_infinite,
        json_schema_extra=extra,
    )
