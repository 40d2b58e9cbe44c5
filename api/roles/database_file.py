"""Which file a database is, if it is one."""

from __future__ import annotations

from pathlib import Path

from iqdb_core.store.address import SqliteAddress, parse_address


def file_of(database_url: str) -> Path | None:
    """Return the file behind an address, None for a database server; raises WrongUsage where it is none."""
    if not isinstance(parse_address(database_url), SqliteAddress):
        return None
    if database_url.startswith("sqlite:///"):
        return Path(database_url.removeprefix("sqlite:///"))
    return Path(database_url)
