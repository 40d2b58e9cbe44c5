"""Returns the file behind a database address."""

from __future__ import annotations

from pathlib import Path

from iqdb_core.store.address import file_part, parse_address


def file_of(database_url: str) -> Path | None:
    """Return the file behind an address, None for a database server; raises WrongUsage if it is neither."""
    parse_address(database_url)
    path = file_part(database_url)
    return None if path is None else Path(path)
