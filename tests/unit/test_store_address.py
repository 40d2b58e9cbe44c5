"""Which database an address names."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from api.roles.database_file import file_of
from iqdb_core.errors import WrongUsage
from iqdb_core.store import open_store
from iqdb_core.store.address import PostgresAddress, SqliteAddress, parse_address
from tests.fixtures.stores import put


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("iqdb.sqlite", Path("iqdb.sqlite").absolute()),
        ("sqlite:///iqdb.sqlite", Path("iqdb.sqlite").absolute()),
        ("sqlite://iqdb.sqlite", Path("iqdb.sqlite").absolute()),
        ("sqlite:////var/lib/iqdb.sqlite", Path("/var/lib/iqdb.sqlite")),
        ("/var/lib/my images #1?.sqlite", Path("/var/lib/my images #1?.sqlite")),
    ],
)
def test_files(url: str, path: Path) -> None:
    assert parse_address(url) == SqliteAddress(path)
    assert str(path) in str(parse_address(url))
    database = file_of(url)
    assert database is not None
    assert database.absolute() == path


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres(scheme: str) -> None:
    address = parse_address(f"{scheme}://me:secret@db:5433/iqdb?sslmode=require")
    assert isinstance(address, PostgresAddress)
    assert address.url.drivername == "postgresql+psycopg"
    assert (address.url.host, address.url.port, address.url.database) == ("db", 5433, "iqdb")
    assert address.url.query == {"sslmode": "require"}
    assert str(address) == "Postgres database postgresql://me:***@db:5433/iqdb"


def test_only_what_says_which_database_it_is_is_shown() -> None:
    secrets = "password=hidden1&sslpassword=hidden2&passfile=/hidden3&options=-c%20a.b%3Dhidden4"
    shown = str(parse_address(f"postgresql://me:hidden5@/iqdb?host=one:5432&host=two:5433&{secrets}"))
    assert "hidden" not in shown
    assert all(part in shown for part in ("me", "iqdb", "one", "5432", "two", "5433"))


@pytest.mark.parametrize("option", ["servicex=1", "prepare_threshold=0", "conninfo=host%3Da", "autocommit=1"])
def test_a_connection_option_that_libpq_lacks_is_told_by_name(option: str) -> None:
    with pytest.raises(WrongUsage, match=f"no connection option {option.partition('=')[0]}$"):
        parse_address(f"postgresql://db/iqdb?sslmode=require&{option}")


def test_the_directory_of_a_socket_may_stand_for_the_host() -> None:
    address = parse_address("postgresql://me@%2Frun%2Fpg:5433/iqdb")
    assert isinstance(address, PostgresAddress)
    assert (address.url.host, address.url.port) == ("/run/pg", 5433)


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


def test_a_name_has_room_for_those_of_the_files_beside_it(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - len(".") - len(".writer")))
    with closing(open_store(str(longest))) as store:
        store.apply([put(1, 1)])
    with pytest.raises(WrongUsage, match="too long"):
        open_store(f"{longest}x")
    assert [found.name for found in tmp_path.iterdir()] == [longest.name]


def test_a_file_with_odd_characters_opens(tmp_path: Path) -> None:
    path = tmp_path / "a b#c?d%20é.sqlite"
    open_store(str(path)).close()
    assert path.exists()
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
