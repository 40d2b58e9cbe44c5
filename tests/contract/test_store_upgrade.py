"""Stores that an older version of this program made: brought to the newest schema when they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from iqdb_core.model import Write
from iqdb_core.store import StoreTimeouts, open_store, schema
from iqdb_core.store.address import parse_address
from iqdb_core.store.opening import make_backend
from tests.fixtures.stores import IqdbFile, all_changes, put, signature

if TYPE_CHECKING:
    from pathlib import Path


def make_old_store(url: str, *, version: str) -> None:
    """Make a store of an older schema, with what `images` holds taken over."""
    backend = make_backend(parse_address(url), StoreTimeouts())
    backend.prepare()
    with backend.upgrading() as connection:
        schema.migrate_schema(connection, version)
        if version == "0001":
            connection.execute(sa.text("UPDATE iqdb_store SET store_id = 'old'"))
    backend.close()


def test_a_store_of_version_1_gets_the_tables_that_came_later(store_url: str) -> None:
    make_old_store(store_url, version="0001")
    store = open_store(store_url)
    assert store.store_id == "old"
    store.apply([Write(1, 1, signature(1), "one")])
    assert store.sources_of([1]) == {1: "one"}
    store.close()
    store = open_store(store_url)
    assert store.sources_of([1]) == {1: "one"}
    store.close()


def test_a_new_file_has_what_migrations_make(tmp_path: Path) -> None:
    """Down to the words of each table, so that it makes no difference which way a store has come."""
    made, migrated = tmp_path / "made.sqlite", tmp_path / "migrated.sqlite"
    open_store(str(made)).close()
    make_old_store(str(migrated), version=schema.NEWEST_VERSION)
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    words = [
        [(name, "".join(str(sql).split())) for name, sql in IqdbFile(path).run(tables)]
        for path in (made, migrated)
    ]
    assert words[0] == words[1]
    rows = "SELECT version_num FROM iqdb_schema_version"
    assert IqdbFile(made).run(rows) == IqdbFile(migrated).run(rows) == [(schema.NEWEST_VERSION,)]
    assert [seq for seq, _ in IqdbFile(made).run("SELECT * FROM iqdb_lineage")] == [0]


def test_the_feed_of_a_store_of_version_1_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    store = open_store(str(path))
    store.apply([put(1, 1), put(2, 2)])
    before = all_changes(store)
    store.close()
    for statement in (
        "DROP TABLE iqdb_sources",
        "DROP TABLE iqdb_lineage",
        "UPDATE iqdb_schema_version SET version_num = '0001'",
    ):
        IqdbFile(path).run(statement)
    store = open_store(str(path))
    assert all_changes(store) == before
    store.close()
