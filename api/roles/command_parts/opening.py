"""Which target do the options of a command mean? A server if an address is given, else a database."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.roles.command_parts.content import content_of_file
from api.roles.command_parts.files import is_file, is_handed, is_there, path_of, reason_to_pass
from api.roles.command_parts.reasons import reason_of
from api.roles.command_parts.show import say
from api.roles.command_parts.target import Target
from api.roles.progress import WAITING, ProgressLine
from iqdb_client import ClientError, Unauthorized, Unavailable
from iqdb_client.errors import cause_of
from iqdb_core.errors import ConfigError, ImageError, InvalidHash, SearchUnavailable, WrongUsage
from iqdb_core.file_mode import mode_of
from iqdb_core.gc_freeze import without_gc
from iqdb_core.settings import Settings
from iqdb_core.web_address import split_web_address

if TYPE_CHECKING:
    from api.roles.command_parts.local import DatabaseTarget

_HASH: Final = re.compile("(iqdb_)?[0-9A-Fa-f]{528}")
_SHOWN: Final = 200
"""Characters of a word that are repeated in a message about it."""
MAX_FETCH_BYTES: Final = 64 * 1024 * 1024
FETCH_TIMEOUT_S: Final = 30.0


@contextmanager
def opened(settings: Settings, *, make: bool = False, hash_here: bool = False) -> Iterator[Target]:
    """Open what a command works on.

    Parameters
    ----------
    settings : Settings
    make : bool
        Make a database that is not there, and say so; otherwise it is an error.
    hash_here : bool
        See `ServerTarget`.

    Raises
    ------
    WrongUsage
        The address of the server is invalid.
    ConfigError
        There is no such database.
    """
    if settings.url:
        with without_gc():
            from api.roles.command_parts.remote import ServerTarget  # noqa: PLC0415 - brings a client of HTTP

        if split_web_address(settings.url) is None:
            raise WrongUsage(f"the address of a server looks like http://HOST:PORT, unlike {settings.url!r}")
        try:
            with ServerTarget(
                settings.url,
                token=settings.token or None,
                hash_here=hash_here,
                max_pixels=settings.max_pixels,
            ) as server:
                yield server
        except ClientError as error:
            raise SearchUnavailable(f"{settings.url}: {error}{_hint(error, settings.url)}") from error
        return
    with opened_database(settings, make=make) as database:
        yield database


def _hint(error: ClientError, url: str) -> str:
    """Return what to do about an error, or look at, where its own words do not say it."""
    from iqdb_client.environment import leads_through_proxy  # noqa: PLC0415 - brings a client of HTTP

    # What the server says of tokens is for programs that send headers.
    if isinstance(error, Unauthorized) and "token" in str(error).lower():
        return " (--token, IQDB_TOKEN)"
    if isinstance(error, Unavailable) and leads_through_proxy(url):
        return "; the environment leads there through a proxy (http_proxy, no_proxy)"
    return ""


@contextmanager
def opened_database(settings: Settings, *, make: bool = False) -> Iterator[DatabaseTarget]:
    """Open the database of the settings; see `opened`. Raises ConfigError if there is none to be opened."""
    with without_gc():
        from api.roles.command_parts.local import DatabaseTarget  # noqa: PLC0415 - brings SQL and the index
        from api.roles.database_file import file_of  # noqa: PLC0415 - brings SQL

    path = file_of(settings.database_url)
    try:
        is_new = path is not None and mode_of(path) is None
    except OSError as error:  # a folder above it may not be entered
        raise ConfigError(f"the database {path} cannot be opened: {reason_of(error)}") from error
    if is_new and not make:
        raise ConfigError(f"there is no database {path}; 'iqdb add' makes one, --db names another")
    with (
        ProgressLine("reading the database", if_silent=WAITING) as line,
        DatabaseTarget(settings.database_url, max_pixels=settings.max_pixels, progress=line) as database,
    ):
        line.close()
        if is_new:
            say(f"made a new database {path}")
        yield database


def picture_of(text: str) -> bytes | str | int:
    """Return what a word on the command line means: an address, a hash, a file or pipe, or an id.

    Raises
    ------
    ConfigError
        None of these, which are tried in this order; a file that cannot be read, or an address that cannot be
        fetched.
    """
    from api.roles.command_parts.manifest import is_image_id  # noqa: PLC0415 - brings numpy
    from iqdb_core import codec  # noqa: PLC0415 - brings numpy

    if text.startswith(("http://", "https://")):
        return fetched(text)
    if _HASH.fullmatch(text):
        try:
            return codec.to_hash(codec.from_hash(text))
        except InvalidHash as error:
            raise ConfigError(f"this is no hash: {error}") from error
    path = path_of(text)
    if is_file(path) or is_handed(path):
        try:
            return content_of_file(path)
        except (OSError, ImageError) as error:
            raise ConfigError(f"{text} cannot be read: {reason_of(error)}") from error
    if is_image_id(text):
        return int(text)
    raise ConfigError(_why_none(text, path))


def _why_none(text: str, path: Path) -> str:
    """Say why a word names no picture."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if os.path.isdir(path):  # noqa: PTH112 - that of Path fails for a name that is too long
        those = f"to search among those in it, add them first: iqdb add {shlex.quote(shown)}"
        return f"{shown} is a folder, and one picture is wanted; {those}"
    if is_there(path):
        return f"{shown} cannot be read: {reason_to_pass(path)}"
    return f"{shown} is no file that is there, and no address, hash or id"


def fetched(url: str) -> bytes:
    """Return what an address gives. Raises ConfigError with the reason if it gives nothing or too much."""
    import httpx  # noqa: PLC0415 - few commands need a client of HTTP

    from iqdb_client.environment import usable_environment  # noqa: PLC0415 - brings httpx

    data = bytearray()
    try:
        with usable_environment():
            http = httpx.Client(follow_redirects=True, timeout=FETCH_TIMEOUT_S)
        with http, http.stream("GET", url) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > MAX_FETCH_BYTES:
                    raise ConfigError(f"{url} gives more than {MAX_FETCH_BYTES:,} bytes")
    except (ClientError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise ConfigError(f"{url} cannot be fetched: {cause_of(error)}") from error
    if not data:
        raise ConfigError(f"{url} cannot be fetched: it is empty")
    return bytes(data)
