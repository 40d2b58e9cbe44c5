"""Which database does this text name? Reads addresses; opens nothing. Called by whoever is given one."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import sqlalchemy as sa

from iqdb_core.errors import WrongUsage
from iqdb_core.file_mode import mode_of

_POSTGRES: Final = {"postgres", "postgresql", "postgresql+psycopg"}
_LONGEST_SUFFIX: Final = "-journal"
"""No file beside the database adds more to its name."""
_SHOWN: Final = {"host", "port"}
"""Parameters of an address that say which database it is; others may be secret."""


@dataclass(frozen=True, slots=True)
class StoreTimeouts:
    """How long a store operation may wait before it fails as StoreUnavailable.

    Parameters
    ----------
    connect_s : float
        For a new connection to Postgres.
    lock_s : float
        For a lock that another writer holds, or a free connection of the pool.
    statement_s : float
        For one statement, on Postgres. Takeover and bulk copies are exempt.
    """

    connect_s: float = 5.0
    lock_s: float = 10.0
    statement_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """A database file."""

    path: Path

    def __str__(self) -> str:
        return f"SQLite file {self.path}"


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A database on a Postgres server."""

    url: sa.URL

    def __str__(self) -> str:
        shown = {name: value for name, value in self.url.query.items() if name in _SHOWN}
        url = self.url.set(drivername="postgresql", query=shown)
        return f"Postgres database {url.render_as_string(hide_password=True)}"


def parse_address(url: str) -> SqliteAddress | PostgresAddress:
    """Tell what an address names.

    Parameters
    ----------
    url : str
        `sqlite:///relative/path`, `sqlite:////absolute/path`, a bare path, or `postgresql://...`
        (`postgres://` and `postgresql+psycopg://` mean the same).

    Raises
    ------
    WrongUsage
        Another scheme, an unreadable URL, a connection option that libpq does not have, a path that no file
        can have, or an SQLite database in memory: a store is durable.
    """
    path = file_part(url)
    if path is not None:
        return _sqlite(path)
    scheme, _, rest = url.partition("://")
    if scheme not in _POSTGRES:
        raise WrongUsage(f"a store is an SQLite file or a Postgres database, not {scheme}://")
    try:
        parsed = sa.make_url(f"postgresql+psycopg://{rest}")
        parsed.get_dialect()().create_connect_args(parsed)  # refuses several servers that are not well named
    except (sa.exc.ArgumentError, ValueError) as exc:
        raise WrongUsage("the address of the Postgres database cannot be read") from exc
    if not parsed.database:
        raise WrongUsage("the address of the Postgres database names no database")
    if unknown := parsed.query.keys() - _connection_options():
        raise WrongUsage(f"Postgres has no connection option {', '.join(sorted(unknown))}")
    if parsed.host:
        parsed = parsed.set(host=unquote(parsed.host))  # as in libpq, a directory may stand here
    return PostgresAddress(parsed)


def _connection_options() -> set[str]:
    # Whoever never names a Postgres database never loads its driver.
    from psycopg.pq import Conninfo  # noqa: PLC0415

    return {option.keyword.decode() for option in Conninfo.get_defaults()}


def file_part(url: str) -> str | None:
    """Return the path of an SQLite file as its address gives it, None for an address of something else."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    return rest.removeprefix("/") if scheme == "sqlite" else None


def _sqlite(path: str) -> SqliteAddress:
    if not path or path.startswith(":memory:"):
        raise WrongUsage("a store on SQLite needs a file: one in memory would not survive a restart")
    try:
        mode_of(Path(f"{path}{_LONGEST_SUFFIX}"))
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise WrongUsage("the path of the database is too long: files beside it add to it") from exc
    return SqliteAddress(Path(path).absolute())
