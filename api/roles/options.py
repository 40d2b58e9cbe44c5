"""Turns settings into options of a command: a field of the model becomes `--its-name`.

`with_settings` is the bridge between Typer, which reads a function's signature, and `Settings`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

import typer
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo, OptionInfo

from api.roles.interrupts import interrupted_by_signals
from api.roles.messages import configure_logging, say
from iqdb_core.errors import WrongUsage
from iqdb_core.settings import Settings, alias_of, fields_of, flags_of, group_of, shown_default
from iqdb_core.settings_terms import SERVERS
from iqdb_core.settings_unknown import warn_of_unknown

LOCAL: Final = ("database_url", "log_level")
TARGET: Final = (*LOCAL, "url", "token")
DECODING: Final = ("max_pixels", "log_level")
"""Settings of commands that work on a database, on a database or a server, or on pictures."""
LONG_RUNNING: Final = (*SERVERS, "worker")
"""Roles that run until a signal, and handle signals themselves."""
_EMPTY: Final = "{} is empty; if it is a variable, it is not set"


def with_settings(
    role: str, *, only: tuple[str, ...] | None = None, without: Mapping[str, str] | None = None
) -> Callable[..., Callable[..., None]]:
    """Return a decorator that gives a command the options of a role.

    The function takes the settings first and its own arguments after them. Settings come from options and
    environment, and logging is configured accordingly. An argument of its own with the name of a setting
    replaces the option. It returns the exit code; None counts as 0.

    Parameters
    ----------
    role : str
        One of `iqdb_core.settings_terms.ROLES`, or `COMMANDS`.
    only : tuple of str, optional
        Offer only these options.
    without : mapping of str to str, optional
        Settings that the command does not support, even from the environment, and the message.
    """
    without = without or {}
    fields = {
        name: field
        for name, field in fields_of(role).items()
        if only is None or name in only or name in without
    }

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        own = _own_parameters(function)
        taken = {parameter.name for parameter in own}
        parameters = [*own, *_options(fields, taken, hidden=without), *_aliases(fields)]

        def command(**values: Any) -> None:
            try:
                settings = Settings.read(**_given(fields, values))
                _refuse(settings, without)
            except WrongUsage as error:
                say(str(error))
                raise typer.Exit(2) from None
            configure_logging(settings.log_level)
            warn_of_unknown(os.environ)
            arguments = {name: values[name] for name in taken - set(fields)}
            with interrupted_by_signals() if role not in LONG_RUNNING else nullcontext():
                code = function(settings, **arguments) or 0
            raise typer.Exit(code)

        command.__name__ = function.__name__
        command.__doc__ = _unwrapped(function.__doc__ or "")
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _unwrapped(text: str) -> str:
    """Return a docstring with each paragraph in one line: a terminal breaks it where it has to."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def _own_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a command's function, without the settings, which come first."""
    hints = get_type_hints(function, include_extras=True)
    _, *own = inspect.signature(function).parameters.values()
    return [parameter.replace(annotation=_completed(hints[parameter.name])) for parameter in own]


def _options(
    fields: Mapping[str, FieldInfo], taken: Collection[str], *, hidden: Collection[str]
) -> Iterator[inspect.Parameter]:
    """Yield an option for each setting whose name is not taken."""
    for name, field in fields.items():
        if name not in taken:
            yield _optional(name, _annotation(name, field, is_hidden=name in hidden))


def _aliases(fields: Iterable[str]) -> Iterator[inspect.Parameter]:
    """Yield an option for each setting's second name."""
    for name in fields:
        if (alias := alias_of(name)) is not None:
            yield _optional(_by_alias(name), Annotated[str | None, typer.Option(alias, hidden=True)])


def _optional(name: str, annotation: Any) -> inspect.Parameter:
    # No default here: an option that is not given comes from the environment, then from the model.
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _by_alias(name: str) -> str:
    return f"{name}_by_alias"


def _given(fields: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the command line gives of settings, by either name; None for what it does not give.

    Raises WrongUsage where it gives both a database and a server, or nothing after `--url`. Either wins over
    the other's variable.
    """
    given = {}
    for name in fields:
        value = values.get(name)
        given[name] = values.get(_by_alias(name)) if value is None else value
    if given.get("url") == "":
        raise WrongUsage(_EMPTY.format("--url"))
    if "url" in given and given["database_url"] is not None:
        if given["url"] is not None:
            raise WrongUsage("--db names a database and --url a server to work on: only one of them is taken")
        given["url"] = ""
    return given


def _word(text: str) -> str:
    """Return an argument; raises WrongUsage for an empty one.

    Mostly that is an unset variable of the shell; as a path it would mean the current folder.
    """
    if not text:
        raise WrongUsage(_EMPTY.format("an argument"))
    return text


def _path(text: str) -> Path:
    return Path(os.path.expanduser(_word(text)))  # noqa: PTH111 - that of Path fails for a file named ~x


_PARSERS: Final = ((str, _word), (list[str], _word), (Path, _path), (list[Path], _path))


_METAVARS: Final[dict[Any, str]] = {int: "N", float: "N", bool: ""}
"""What follows an option in its line of the help: the name of its type, if it is not one of these."""


def _completed(annotation: Any) -> Any:
    """Return the annotation of a parameter: text must not be empty, and flags show no type."""
    kind, *more = get_args(annotation) or (annotation,)
    for info in more:
        if isinstance(info, ArgumentInfo | OptionInfo) and info.parser is None:
            info.parser = next((parser for one, parser in _PARSERS if kind in {one, one | None}), None)
        if isinstance(info, OptionInfo) and kind is bool:
            info.metavar = _METAVARS[bool]
    return annotation


def _refuse(settings: Settings, without: Mapping[str, str]) -> None:
    for name, sentence in without.items():
        if getattr(settings, name):
            raise WrongUsage(sentence)


def _annotation(name: str, field: FieldInfo, *, is_hidden: bool) -> Any:
    # Numbers are read as text: the model has better error messages than Typer.
    metavar = _METAVARS.get(field.annotation)
    kind: Any = str if metavar == "N" else field.annotation
    default, alias = shown_default(name), alias_of(name)
    also = f"; also {alias}" if alias else ""
    return Annotated[
        kind | None,
        typer.Option(
            *flags_of(name),
            help=f"{field.description}{also} (default: {default})".replace("`", "").replace(
                " (default: none)", ""
            ),
            metavar=metavar,
            show_default=False,
            case_sensitive=False,
            hidden=is_hidden,
            rich_help_panel=group_of(field),
        ),
    ]
