"""A store whose tables, or whose counter row, are gone for a while, as during a restore."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from iqdb_core.errors import StoreIncomplete, StoreInvalid
from iqdb_core.store import SignatureStore, open_store
from iqdb_core.store.address import SqliteAddress, parse_address
from tests.fixtures.stores import live_images, put, signature

if TYPE_CHECKING:
    from collections.abc import Callable

USES: dict[str, Callable[[SignatureStore], Any]] = {
    "head_seq": SignatureStore.head_seq,
    "changes_since": lambda store: store.changes_since(0, 10),
    "apply": lambda store: store.apply([put(8, 200)]),
    "apply_and_read": lambda store: store.apply_and_read([put(8, 200)]),
    "check": lambda store: store.check(repair=True),
}
"""What needs the counter row."""


def run(url: str, *statements: str) -> None:
    """Run statements as another program does."""
    address = parse_address(url)
    if isinstance(address, SqliteAddress):
        with closing(sqlite3.connect(address.path)) as file, file:
            for statement in statements:
                file.execute(statement)
    else:
        with psycopg.connect(url) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_store_whose_counter_row_is_gone_is_not_whole_until_it_is_back(
    store_url: str, use: Callable[[SignatureStore], Any]
) -> None:
    with closing(open_store(store_url)) as store:
        store.apply([put(7, 100)])
        run(store_url, "CREATE TABLE kept AS SELECT * FROM iqdb_store", "DELETE FROM iqdb_store")
        with pytest.raises(StoreIncomplete, match="iqdb_store is empty"):
            use(store)
        run(store_url, "INSERT INTO iqdb_store SELECT * FROM kept")
        use(store)
        assert live_images(store)[7] == signature(100)


def test_a_store_whose_counter_row_is_gone_cannot_be_opened(store_url: str) -> None:
    open_store(store_url).close()
    run(store_url, "DELETE FROM iqdb_store")
    with pytest.raises(StoreIncomplete, match="iqdb_store is empty"):
        open_store(store_url)


@pytest.mark.parametrize("table", ["iqdb_store", "iqdb_feed", "images"])
def test_a_store_without_one_of_its_tables_is_not_whole_until_it_is_back(store_url: str, table: str) -> None:
    with closing(open_store(store_url)) as store:
        store.apply([put(7, 100)])
        run(store_url, f"ALTER TABLE {table} RENAME TO kept")
        for use in (lambda: store.changes_since(0, 10), lambda: store.apply([put(8, 200)])):
            with pytest.raises(StoreIncomplete):
                use()
        run(store_url, f"ALTER TABLE kept RENAME TO {table}")
        store.apply([put(8, 200)])
        assert live_images(store) == {7: signature(100), 8: signature(200)}


def test_tables_without_their_constraints_are_not_whole(postgres_url: str) -> None:
    """A restore makes them last, and `iqdb worker` may want to write before."""
    with closing(open_store(postgres_url)) as store:
        run(postgres_url, "ALTER TABLE images DROP CONSTRAINT images_post_id_key")
        with pytest.raises(StoreIncomplete, match="ON CONFLICT"):
            store.apply([put(7, 100)])


def test_tables_whose_version_is_not_there_yet_are_not_whole(postgres_url: str) -> None:
    open_store(postgres_url).close()
    run(postgres_url, "DELETE FROM iqdb_schema_version")
    with pytest.raises(StoreIncomplete, match="already exists"):
        open_store(postgres_url)


def test_what_is_damaged_for_good_is_not_taken_for_a_restore(store_url: str) -> None:
    with closing(open_store(store_url)) as store:
        store.apply([put(7, 100)])
        run(store_url, "ALTER TABLE iqdb_feed RENAME COLUMN revision TO something")
        with pytest.raises(StoreInvalid) as caught:
            store.apply([put(8, 200)])
        assert not caught.value.retryable
