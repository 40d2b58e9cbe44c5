"""Stores that an older version of this program made: brought to the newest schema when they are opened."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid
from iqdb_core.model import Write
from iqdb_core.store import StoreTimeouts, open_store, schema
from iqdb_core.store.address import parse_address
from iqdb_core.store.migrate import copy_store
from iqdb_core.store.opening import back_up_older, make_backend
from tests.fixtures.stores import (
    SMALL_40,
    IqdbFile,
    all_changes,
    delete,
    live_images,
    make_old_store,
    put,
    signature,
)

if TYPE_CHECKING:
    from pathlib import Path


def version_of(url: str) -> str | None:
    backend = make_backend(parse_address(url), StoreTimeouts())
    with closing(backend), backend.reading() as connection:
        return schema.version(connection, url)


def make_version_1(url: str) -> None:
    """Take from a store what version 1 did not have; its images and feed stay."""
    backend = make_backend(parse_address(url), StoreTimeouts())
    with closing(backend), backend.upgrading() as connection:
        for statement in (
            "DROP TABLE iqdb_sources",
            "DROP TABLE iqdb_lineage",
            "UPDATE iqdb_schema_version SET version_num = '0001'",
        ):
            connection.execute(sa.text(statement))


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
    make_version_1(str(path))
    store = open_store(str(path))
    assert all_changes(store) == before
    store.close()


@pytest.fixture
def old_url(store_url: str) -> str:
    """A store of version 1 with a live image, and one that was deleted."""
    with closing(open_store(store_url)) as store:
        store.apply([put(1, 1), put(2, 2), delete(2, 3)])
    make_version_1(store_url)
    return store_url


def test_a_copy_that_is_refused_leaves_its_target_to_the_older_version(old_url: str, tmp_path: Path) -> None:
    source = tmp_path / "source.sqlite"
    shutil.copy(SMALL_40, source)
    for _ in range(2):
        with pytest.raises(StoreInvalid, match="holds other data"):
            copy_store(str(source), old_url)
        open_store(str(source)).close()  # a store now
    assert version_of(old_url) == "0001"


def test_a_copy_that_is_refused_leaves_a_target_of_iqdb_as_it_was(iqdb: IqdbFile) -> None:
    iqdb.add(1, signature(1))
    tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
    with pytest.raises(StoreInvalid, match="holds other data"):
        copy_store(str(SMALL_40), str(iqdb.path))
    assert iqdb.run(tables) == [("images",)]


def test_an_empty_store_of_version_1_takes_a_copy(store_url: str, tmp_path: Path) -> None:
    source = tmp_path / "source.sqlite"
    shutil.copy(SMALL_40, source)
    make_old_store(store_url, version="0001")
    assert copy_store(str(source), store_url).live_count == 40


def test_what_is_copied_is_left_to_the_older_version(old_url: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target.sqlite")
    for copied in (2, 0):
        assert copy_store(old_url, target).copied == copied
    assert version_of(old_url) == "0001"
    with closing(open_store(target)) as copy:
        assert live_images(copy) == {1: signature(1)}
        assert copy.apply([put(2, 3)])[0].is_stale, "the deletion is in the copy, too"


def test_what_iqdb_did_to_an_older_store_is_in_its_copy(iqdb: IqdbFile, tmp_path: Path) -> None:
    iqdb.add(1, signature(1))
    make_old_store(str(iqdb.path), version="0001")
    iqdb.add(2, signature(2))
    copy_store(str(iqdb.path), str(tmp_path / "target.sqlite"))
    with closing(open_store(str(tmp_path / "target.sqlite"))) as copy:
        assert live_images(copy) == {1: signature(1), 2: signature(2)}


def test_a_backup_is_a_way_back_to_the_older_version(old_url: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.sqlite"
    assert back_up_older(old_url, path) == 1
    assert version_of(old_url) == "0001"
    is_file = not old_url.startswith("postgresql")
    assert version_of(str(path)) == ("0001" if is_file else schema.NEWEST_VERSION)
    with closing(open_store(str(path))) as copy:
        assert live_images(copy) == {1: signature(1)}
        assert copy.apply([put(2, 3)])[0].is_stale
        assert copy.check().found == 0


def test_other_databases_are_no_older_stores(iqdb: IqdbFile, store_url: str, tmp_path: Path) -> None:
    path, absent = tmp_path / "backup.sqlite", tmp_path / "absent.sqlite"
    open_store(store_url).close()
    for url in (store_url, str(iqdb.path), str(absent)):
        assert back_up_older(url, path) is None
    assert not path.exists()
    assert not absent.exists()
