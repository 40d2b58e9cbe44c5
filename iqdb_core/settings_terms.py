"""The words in which options are described: roles, groups, and what one option is made of.

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
PEOPLE: Final = "people"
"""Stands for all commands that are no role of a server: `add`, `search` and so on."""


class LogLevel(StrEnum):
    """From what level on records are written to standard error."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Group(StrEnum):
    """What an option is about: a heading of the help and of the documents."""

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
    shown: str | None = None,
    alias: str | None = None,
) -> Any:
    """Return a field.

    Parameters
    ----------
    default : Any
    text : str
        What it is, for the help and the documents; with its unit.
    roles : iterable of str
        Whose option it is.
    group : Group
    above, at_least : float, optional
        Bounds of a number, exclusive and inclusive.
    shown : str, optional
        What documents say of the default, where the bare value would mislead.
    alias : str, optional
        A second name on the command line.
    """
    extra: dict[str, Any] = {"roles": tuple(roles), "group": group, "shown": shown, "alias": alias}
    may_be_infinite = False if isinstance(default, float) else None
    return Field(
        default,
        description=text,
        gt=above,
        ge=at_least,
        allow_inf_nan=may_be_infinite,
        json_schema_extra=extra,
    )
