"""Settings as options of a command: what the model says of a field becomes `--its-name`.

`with_settings` is the bridge between Typer, which reads a function's signature, and `Settings`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

import typer
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo

from api.roles.ending import ending_in_order
from api.roles.process import configure_logging, say
from iqdb_core.errors import WrongUsage
from iqdb_core.settings import Settings, alias_of, fields_of, flags_of, group_of, shown_default
from iqdb_core.settings_terms import SERVERS
from iqdb_core.settings_unknown import warn_of_unknown

LOCAL: Final = ("database_url", "log_level")
TARGET: Final = (*LOCAL, "url", "token")
DECODING: Final = ("max_pixels", "log_level")
"""Settings of commands for people that work on a database alone, on a database or a server, on pictures."""
LASTING: Final = (*SERVERS, "worker")
"""What runs on, and minds its signals itself."""


def with_settings(
    role: str, *, only: tuple[str, ...] | None = None, without: Mapping[str, str] | None = None
) -> Callable[..., Callable[..., None]]:
    """Return a decorator that gives a command the options of a role.

    The function takes the settings first and its own arguments after. It gets the settings read from options
    and environment, with the log configured as they say. An own argument that is named like a setting
    replaces its option. What it returns is the exit code, None counting as 0.

    Parameters
    ----------
    role : str
        One of `iqdb_core.settings.ROLES`.
    only : tuple of str, optional
        Offer no options but these.
    without : mapping of str to str, optional
        Settings with which the command cannot work, also where the environment has them, and what to say.
    """
    without = without or {}
    fields = {
        name: field
        for name, field in fields_of(role).items()
        if only is None or name in only or name in without
    }

    aliases = {name: alias for name in fields if (alias := alias_of(name)) is not None}

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())[1:]
        hints = get_type_hints(function, include_extras=True)
        own = [parameter.replace(annotation=_never_empty(hints[parameter.name])) for parameter in own]
        taken = {parameter.name for parameter in own}
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                # No default here: what is not given comes from the environment, then from the model.
                default=None,
                annotation=_annotation(name, field, is_hidden=name in without),
            )
            for name, field in fields.items()
            if name not in taken
        ]

        options += [
            inspect.Parameter(
                f"{name}_by_alias",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, typer.Option(alias, hidden=True)],
            )
            for name, alias in aliases.items()
        ]

        def command(**values: Any) -> None:
            given = {name: values[name] for name in values if name in fields}
            for name in aliases:
                by_alias = values.pop(f"{name}_by_alias")
                given[name] = by_alias if given[name] is None else given[name]
            try:
                settings = Settings.read(**given)
                _refuse(settings, without)
            except WrongUsage as error:
                say(str(error))
                raise typer.Exit(2) from None
            configure_logging(settings.log_level)
            warn_of_unknown(os.environ)
            arguments = {name: value for name, value in values.items() if name in taken - set(fields)}
            with ending_in_order() if role not in LASTING else nullcontext():
                code = function(settings, **arguments) or 0
            raise typer.Exit(code)

        parameters = [*own, *options]
        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _word(text: str) -> str:
    """Return an argument as it is; raises WrongUsage for an empty one.

    Most often that is a variable of a shell that is not set; as a path it would mean the current folder.
    """
    if not text:
        raise WrongUsage("an argument is empty; if it is a variable, it is not set")
    return text


def _path(text: str) -> Path:
    return Path(_word(text))


_PARSERS: Final = ((str, _word), (list[str], _word), (Path, _path), (list[Path], _path))


def _never_empty(annotation: Any) -> Any:
    """Return the annotation of a parameter; arguments that are text refuse an empty one from now on."""
    kind, *more = get_args(annotation) or (annotation,)
    for info in more:
        if isinstance(info, ArgumentInfo) and info.parser is None:
            info.parser = next((parser for one, parser in _PARSERS if one == kind), None)
    return annotation


def _refuse(settings: Settings, without: Mapping[str, str]) -> None:
    for name, sentence in without.items():
        if getattr(settings, name):
            raise WrongUsage(sentence)


def _annotation(name: str, field: FieldInfo, *, is_hidden: bool) -> Any:
    # Numbers are taken as text: the model says better than Typer what is wrong with one.
    is_number = field.annotation in {int, float}
    kind: Any = str if is_number else field.annotation
    default, alias = shown_default(name), alias_of(name)
    also = f"; also {alias}" if alias else ""
    return Annotated[
        kind | None,
        typer.Option(
            *flags_of(name),
            help=f"{field.description}{also} (default: {default})".replace("`", "").replace(
                " (default: none)", ""
            ),
            metavar="N" if is_number else None,
            show_default=False,
            hidden=is_hidden,
            rich_help_panel=group_of(field),
        ),
    ]
