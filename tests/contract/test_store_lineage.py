"""Marks tell one history of a store from another, on SQLite and Postgres alike."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreUnavailable
from iqdb_core.model import Mark
from iqdb_core.store import lineage, open_store
from tests.fixtures.stores import (
    IqdbFile,
    live_images,
    mark_at,
    put,
)

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.store import SignatureStore


def marks(store: SignatureStore) -> list[tuple[int, str]]:
    with store._backend.reading() as connection:
        rows = connection.execute(sa.text("SELECT seq, token FROM iqdb_lineage ORDER BY seq"))
        return [(row[0], row[1]) for row in rows]


def newest_at(found: list[tuple[int, str]], seq: int) -> Mark:
    return Mark(*[one for one in found if one[0] <= seq][-1])


def test_every_writer_marks_where_it_begins(store: SignatureStore, store_url: str) -> None:
    assert [seq for seq, _ in marks(store)] == [0]
    store.apply([put(1, 1), put(2, 2)])
    store.apply([put(3, 3)])
    other = open_store(store_url)
    other.apply([put(4, 4)])
    store.apply([put(5, 5)])
    found = marks(store)
    assert [seq for seq, _ in found] == [0, 1, 4]
    assert len({token for _, token in found}) == 3
    other.close()


def test_those_who_only_read_leave_no_mark(store: SignatureStore, store_url: str) -> None:
    store.apply([put(1, 1)])
    before = marks(store)
    reader = open_store(store_url)
    reader.changes_since(0, 10)
    reader.close()
    store.apply([put(1, 1)])  # stale: changes nothing
    assert marks(store) == before


def test_long_histories_are_marked_again(store: SignatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "CHANGES_PER_MARK", 10)
    for k in range(7):
        store.apply([put(10 * k + n, 1) for n in range(4)])
    assert [seq for seq, _ in marks(store)] == [0, 1, 9, 17]
    assert [mark_at(store, seq).seq for seq in (0, 1, 8, 9, 16, 17, 10**9)] == [0, 1, 1, 9, 9, 17, 17]


def test_a_mark_that_was_undone_is_made_again(store: SignatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(store._backend, "set_counter", fail)
        with pytest.raises(RuntimeError):
            store.apply([put(1, 1)])
    assert [seq for seq, _ in marks(store)] == [0]
    store.apply([put(1, 1)])
    assert [seq for seq, _ in marks(store)] == [0, 1]


def test_a_store_put_back_under_open_connections_is_marked(store: SignatureStore, store_url: str) -> None:
    """As by `.restore` of sqlite3, or pg_restore --clean: no connection breaks."""
    store.apply([put(1, 1)])
    tables = ("images", "iqdb_feed", "iqdb_store", "iqdb_lineage")
    other = open_store(store_url)
    with other._backend.upgrading() as connection:
        for table in tables:
            connection.execute(sa.text(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}"))  # noqa: S608
    store.apply([put(2, 2), put(3, 3)])
    before = mark_at(store, 3)
    with other._backend.upgrading() as connection:
        for table in tables:
            connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
            connection.execute(sa.text(f"INSERT INTO {table} SELECT * FROM kept_{table}"))  # noqa: S608
    other.close()
    store.apply([put(4, 4), put(5, 5), put(6, 6)])
    assert [seq for seq, _ in marks(store)] == [0, 1, 2]
    assert mark_at(store, 3) != before


def test_a_batch_tells_the_history_it_is_of(store: SignatureStore, store_url: str) -> None:
    store.apply([put(1, 1), put(2, 2)])
    other = open_store(store_url)
    other.apply([put(3, 3)])
    other.close()
    at = partial(newest_at, marks(store))
    for cursor, limit, last in ((0, 10, 3), (0, 2, 2), (2, 10, 3), (3, 10, 3), (9, 10, 9)):
        feed = store.changes_since(cursor, limit).feed
        assert feed is not None
        assert (feed.head_seq, feed.before, feed.after) == (3, at(cursor), at(last))


def test_what_another_program_changed_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "iqdb.sqlite"
    open_store(str(path)).close()
    IqdbFile(path).add(1, put(1, 1).signature)  # type: ignore[arg-type]
    store = open_store(str(path))
    assert [seq for seq, _ in marks(store)] == [0, 1]
    store.close()


def test_a_file_put_in_place_of_an_open_one_is_read_from_then_on(tmp_path: Path) -> None:
    path, backup, aside = tmp_path / "store.sqlite", tmp_path / "backup.sqlite", tmp_path / "aside"
    store = open_store(str(path))
    store.apply([put(1, 1)])
    store.close()
    shutil.copy(path, backup)
    store = open_store(str(path))
    store.apply([put(2, 2)])
    for log in tmp_path.glob("store.sqlite-*"):
        log.unlink()
    path.rename(aside)
    for _ in range(3):  # the first call finds a connection that is still open, the others none
        with pytest.raises(StoreUnavailable):
            store.live_count()
        with pytest.raises(StoreUnavailable):
            store.apply([put(3, 3)])
    assert not path.exists(), "a missing file must not come back empty"
    os.rename(backup, path)  # noqa: PTH104 - as an operator's mv does
    assert live_images(store).keys() == {1}
    store.apply([put(4, 4)])
    assert live_images(store).keys() == {1, 4}
    assert [seq for seq, _ in marks(store)] == [0, 1, 2]
    store.close()
