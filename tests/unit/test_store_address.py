"""Which database an address names."""

from __future__ import annotations

from pathlib import Path

import pytest

from iqdb_core.errors import WrongUsage
from iqdb_core.store import open_store
from iqdb_core.store.address import PostgresAddress, SqliteAddress, parse_address


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("iqdb.sqlite", Path("iqdb.sqlite").absolute()),
        ("sqlite:///iqdb.sqlite", Path("iqdb.sqlite").absolute()),
        ("sqlite:////var/lib/iqdb.sqlite", Path("/var/lib/iqdb.sqlite")),
        ("/var/lib/my images #1?.sqlite", Path("/var/lib/my images #1?.sqlite")),
    ],
)
def test_files(url: str, path: Path) -> None:
    assert parse_address(url) == SqliteAddress(path)
    assert str(path) in str(parse_address(url))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres(scheme: str) -> None:
    address = parse_address(f"{scheme}://me:secret@db:5433/iqdb?sslmode=require")
    assert isinstance(address, PostgresAddress)
    assert address.url.drivername == "postgresql+psycopg"
    assert (address.url.host, address.url.port, address.url.database) == ("db", 5433, "iqdb")
    assert address.url.query == {"sslmode": "require"}
    assert "secret" not in str(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x" * 5000,
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://db/iqdb",
        "postgresql://",
        "postgresql://db:port/x",
        "postgresql:///x?host=one:5432&host=two:5433&port=5432",
        "postgresql:///x?host=one:five&host=two:5433",
    ],
)
def test_what_names_no_store(url: str) -> None:
    with pytest.raises(WrongUsage):
        parse_address(url)


def test_a_file_with_odd_characters_opens(tmp_path: Path) -> None:
    path = tmp_path / "a b#c?d%20é.sqlite"
    open_store(str(path)).close()
    assert path.exists()
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
