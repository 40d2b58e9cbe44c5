"""Which file a database is, if it is one."""

from __future__ import annotations

from pathlib import Path


def file_of(database_url: str) -> Path | None:
    """Return the file behind an address, None for a database server."""
    if database_url.startswith("sqlite:///"):
        return Path(database_url.removeprefix("sqlite:///"))
    return None if "://" in database_url else Path(database_url)
