"""A store in an SQLite file: IQDB's files open here and ours there."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.errors import StoreInvalid, UnknownImage
from iqdb_core.model import Signature
from iqdb_core.store import open_store
from iqdb_core.store.backend import pair_mix
from iqdb_core.store.databases.sqlite import fingerprint
from tests.fixtures import programs
from tests.fixtures.stores import (
    IQDB_TABLE,
    SMALL_40,
    IqdbFile,
    all_changes,
    delete,
    live_images,
    put,
    stands_alone,
)
from tests.fixtures.stores import signature as made

if TYPE_CHECKING:
    from pathlib import Path

BROKEN_ROWS = {
    "short": (0.5, 0.0, 0.0, made(1).positions[:-1]),
    "empty": (0.5, 0.0, 0.0, b""),
    "long": (0.5, 0.0, 0.0, made(1).positions * 2),
    "position 0": (0.5, 0.0, 0.0, b"\x00\x00" + made(1).positions[2:]),
    "position 16384": (0.5, 0.0, 0.0, b"\x00\x40" + made(1).positions[2:]),
    "position -32768": (0.5, 0.0, 0.0, made(1).positions[:-2] + b"\x00\x80"),
    "text": (0.5, 0.0, 0.0, "a" * 240),
    "infinite": (0.5, float("inf"), 0.0, made(1).positions),
    "no number": ("grey", 0.0, 0.0, made(1).positions),
}


class TestTakeover:
    def test_the_original_table_stays_byte_for_byte(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        file = IqdbFile(path)
        before = file.table_digest()
        store = open_store(str(path))
        assert file.table_digest() == before
        store.close()
        assert file.table_digest() == before
        assert stands_alone(path)

    def test_every_image_becomes_a_change(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        expected = IqdbFile(path).live()
        store = open_store(str(path))
        assert store.live_count() == store.head_seq() == 40
        assert live_images(store) == expected
        assert {image_id: store.get(image_id) for image_id in expected} == expected
        assert store.max_revision() == 0
        store.close()

    def test_progress_is_told(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        told: list[tuple[int, int]] = []
        open_store(str(path), progress=lambda done, total: told.append((done, total))).close()
        assert told == [(40, 40)]
        open_store(str(path), progress=lambda done, total: told.append((done, total))).close()
        assert told == [(40, 40)]

    def test_an_empty_file_of_iqdb_is_a_store(self, path: Path, iqdb: IqdbFile) -> None:
        store = open_store(str(path))
        assert store.live_count() == 0
        store.close()
        assert iqdb.live() == {}

    def test_a_new_file_has_iqdbs_table_to_the_letter(self, path: Path) -> None:
        open_store(str(path)).close()
        assert IqdbFile(path).run("SELECT sql FROM sqlite_master WHERE name = 'images'") == [(IQDB_TABLE,)]
        assert IqdbFile(SMALL_40).run("SELECT sql FROM sqlite_master WHERE name = 'images'") == [
            (IQDB_TABLE,)
        ]
        assert stands_alone(path)

    def test_iqdb_finds_our_writes_in_its_table(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(7, 100), put(8, 101), put(2**63 - 1, 102), delete(8, 103), put(7, 104)])
        store.close()
        assert IqdbFile(path).live() == {7: made(104), 2**63 - 1: made(102)}
        assert IqdbFile(path).run("PRAGMA integrity_check") == [("ok",)]

    def test_a_takeover_that_dies_leaves_the_file_as_it_was(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        before = IqdbFile(path).table_digest()
        script = f"""
            import os, signal
            from iqdb_core.store import open_store
            open_store({str(path)!r}, progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
        """
        died = programs.run(script)
        assert died.returncode == -signal.SIGKILL
        file = IqdbFile(path)
        assert file.run("SELECT name FROM sqlite_master WHERE type = 'table'") == [("images",)]
        assert file.table_digest() == before
        store = open_store(str(path))
        assert store.live_count() == 40
        store.close()

    def test_a_takeover_that_fails_is_undone(self, path: Path) -> None:
        shutil.copy(SMALL_40, path)
        before = path.read_bytes()

        def fail(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            open_store(str(path), progress=fail)
        assert stands_alone(path)
        assert IqdbFile(path).run("SELECT count(*) FROM sqlite_master WHERE name LIKE 'iqdb%'") == [(0,)]
        assert len(path.read_bytes()) >= len(before)


class TestChangesWhileAway:
    """IQDB works on the file between two of our runs."""

    def test_nothing_happened(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(k, 1 + k) for k in range(50)] + [delete(k, 100) for k in range(0, 50, 7)])
        head = store.head_seq()
        store.close()
        store = open_store(str(path))
        assert store.head_seq() == head
        store.close()

    def test_added_removed_and_replaced_rows_become_changes(self, path: Path, iqdb: IqdbFile) -> None:
        for post in range(10):
            iqdb.add(post, made(post))
        store = open_store(str(path))
        store.apply([put(100, 5000)])
        head, store_id = store.head_seq(), store.store_id
        store.close()

        iqdb.add(20, made(20))
        iqdb.remove(3)
        iqdb.replace(4, made(40))
        store = open_store(str(path))
        assert store.store_id == store_id
        changes = all_changes(store, cursor=head)
        assert {(image_id, found) for _, image_id, found in changes} == {
            (20, made(20)),
            (3, None),
            (4, made(40)),
        }
        assert [seq for seq, _, _ in changes] == [head + 1, head + 2, head + 3]
        assert live_images(store) == iqdb.live()
        assert store.live_count() == 11
        store.close()

    def test_the_newest_row_replaced_under_the_same_id_is_noticed(self, path: Path, iqdb: IqdbFile) -> None:
        # Deleting the row with the largest id and inserting gives the same id: only the contents differ.
        for post in range(5):
            iqdb.add(post, made(post))
        open_store(str(path)).close()
        rows = iqdb.run("SELECT id, post_id FROM images ORDER BY id")
        iqdb.replace(4, made(44))
        assert iqdb.run("SELECT id, post_id FROM images ORDER BY id") == rows
        store = open_store(str(path))
        assert store.get(4) == made(44)
        assert all_changes(store, cursor=5) == [(6, 4, made(44))]
        store.close()

    def test_two_posts_that_changed_places_are_noticed(self, path: Path, iqdb: IqdbFile) -> None:
        for post in range(5):
            iqdb.add(post, made(post))
        open_store(str(path)).close()
        iqdb.remove(3)
        iqdb.remove(4)
        iqdb.add(4, made(4))
        iqdb.add(3, made(3))
        store = open_store(str(path))
        assert live_images(store) == iqdb.live()
        store.close()

    def test_a_tombstone_can_be_added_again(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(7, 100)])
        store.apply([delete(7, 200)])
        store.close()
        IqdbFile(path).add(7, made(9))
        store = open_store(str(path))
        assert store.get(7) == made(9)
        assert store.live_count() == 1
        # An add accepted before the delete, redelivered now, is still stale; a later write is not.
        assert store.apply([put(7, 150)])[0].is_stale
        assert not store.apply([put(7, 300)])[0].is_stale
        store.close()

    def test_everything_removed(self, path: Path, iqdb: IqdbFile) -> None:
        for post in range(5):
            iqdb.add(post, made(post))
        open_store(str(path)).close()
        iqdb.run("DELETE FROM images")
        store = open_store(str(path))
        assert store.live_count() == 0
        assert [found for _, _, found in all_changes(store)] == [None] * 5
        store.close()

    def test_a_writer_that_was_killed_before_is_no_obstacle(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(7, 100)])
        # Without closing, the log is still beside the file; IQDB reads and writes through it.
        iqdb = IqdbFile(path)
        iqdb.add(8, made(8))
        again = open_store(str(path))
        assert live_images(again) == {7: made(100), 8: made(8)}
        again.close()
        store.close()
        assert stands_alone(path)


class TestBrokenRows:
    @pytest.mark.parametrize("name", BROKEN_ROWS)
    def test_it_is_left_alone_and_reported_once(
        self, path: Path, iqdb: IqdbFile, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        iqdb.add(1, made(1))
        iqdb.add_raw(2, *BROKEN_ROWS[name])
        iqdb.add(3, made(3))
        before = iqdb.table_digest()
        store = open_store(str(path))
        assert store.live_count() == 2
        assert live_images(store) == {1: made(1), 3: made(3)}
        with pytest.raises(UnknownImage):
            store.get(2)
        store.close()
        open_store(str(path)).close()
        assert iqdb.table_digest() == before
        reports = [record for record in caplog.records if getattr(record, "action", "") == "broken_row"]
        assert [record.post_id for record in reports] == [2]

    @pytest.mark.parametrize("name", BROKEN_ROWS)
    def test_a_put_heals_it(self, path: Path, iqdb: IqdbFile, name: str) -> None:
        iqdb.add_raw(2, *BROKEN_ROWS[name])
        store = open_store(str(path))
        store.apply([put(2, 100)])
        assert live_images(store) == {2: made(100)}
        assert store.live_count() == 1
        store.close()
        assert iqdb.live() == {2: made(100)}
        store = open_store(str(path))
        assert store.head_seq() == 2
        store.close()

    def test_a_delete_removes_it(self, path: Path, iqdb: IqdbFile) -> None:
        iqdb.add_raw(2, *BROKEN_ROWS["short"])
        store = open_store(str(path))
        store.apply([delete(2, 100)])
        assert store.live_count() == 0
        store.close()
        assert iqdb.run("SELECT count(*) FROM images") == [(0,)]

    @pytest.mark.parametrize("post_id", ["seven", 1.5, -1, b"x"])
    def test_a_post_id_that_is_none_is_left_alone(
        self, path: Path, iqdb: IqdbFile, post_id: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        iqdb.add(post_id, made(1))
        iqdb.add(3, made(3))
        store = open_store(str(path))
        assert live_images(store) == {3: made(3)}
        store.apply([put(4, 100)])
        assert store.live_count() == 2
        store.close()
        open_store(str(path)).close()
        assert any(getattr(record, "post_id", None) == post_id for record in caplog.records)
        assert iqdb.run("SELECT count(*) FROM images") == [(3,)]

    @pytest.mark.parametrize("name", BROKEN_ROWS)
    def test_a_row_that_breaks_under_our_eyes_reads_as_absent(
        self, path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = open_store(str(path))
        store.apply([put(k, 10 + k) for k in range(5)])
        IqdbFile(path).run(
            "UPDATE images SET avglf1 = ?, avglf2 = ?, avglf3 = ?, sig = ? WHERE post_id = 2",
            *BROKEN_ROWS[name],
        )
        expected = {k: made(10 + k) for k in (0, 1, 3, 4)}
        assert live_images(store) == expected
        assert [seq for seq, _, _ in all_changes(store)] == [1, 2, 3, 4, 5]
        assert any(getattr(record, "post_id", None) == 2 for record in caplog.records)
        with pytest.raises(UnknownImage):
            store.get(2)
        store.close()

    def test_a_row_that_vanishes_under_our_eyes_reads_as_absent(self, path: Path) -> None:
        store = open_store(str(path))
        store.apply([put(k, 10 + k) for k in range(3)])
        IqdbFile(path).remove(1)
        assert live_images(store) == {0: made(10), 2: made(12)}
        store.apply([put(1, 100), delete(0, 101)])
        assert live_images(store) == {1: made(100), 2: made(12)}
        store.close()
        assert IqdbFile(path).live() == {1: made(100), 2: made(12)}

    def test_a_file_without_room_for_another_row(self, path: Path, iqdb: IqdbFile) -> None:
        iqdb.run("INSERT INTO images VALUES (?, 7, 0.5, 0.0, 0.0, ?)", 2**63 - 1, made(7).positions)
        store = open_store(str(path))
        assert live_images(store).keys() == {7}
        with pytest.raises(StoreInvalid, match="no id is left"):
            store.apply([put(8, 100)])
        store.close()

    def test_a_row_that_appears_under_our_eyes_gives_way(self, path: Path) -> None:
        store = open_store(str(path))
        IqdbFile(path).add(7, made(1))
        store.apply([put(7, 100)])
        assert live_images(store) == {7: made(100)}
        store.close()
        assert IqdbFile(path).live() == {7: made(100)}
        store = open_store(str(path))
        assert live_images(store) == {7: made(100)}
        store.close()


def pairs(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(numbers, numbers), unique_by=(lambda row: row[0], lambda row: row[1]))


@given(
    pairs(st.integers(-(2**63), 2**63 - 1))
    | pairs(st.integers(0, 2**24 - 1))
    | pairs(st.integers(2**24 - 2, 2**24 + 2) | st.integers(-1, 2))
)
def test_sql_and_python_agree_on_the_fingerprint(rows: list[tuple[int, int]]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(IQDB_TABLE)
        insert = "INSERT INTO images VALUES (?, ?, 0, 0, 0, x'')"
        connection.executemany(insert, rows)
        expected = (len(rows), sum(pair_mix(*row) for row in rows))
        assert fingerprint(connection) == expected


def test_what_is_committed_outlasts_a_power_cut(path: Path) -> None:
    with closing(open_store(str(path))) as store, store._backend.writing() as connection:
        (synchronous,) = connection.exec_driver_sql("PRAGMA synchronous").one()
    full = 2
    assert synchronous == full


def test_iqdb_cannot_write_between_what_a_write_reads_and_what_it_writes(path: Path) -> None:
    with (
        closing(open_store(str(path))) as store,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as iqdb,
        store._backend.writing(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        iqdb.execute("BEGIN IMMEDIATE")


def test_signature_objects_are_plain(path: Path) -> None:
    store = open_store(str(path))
    store.apply([put(7, 100)])
    found = store.get(7)
    assert type(found) is Signature
    assert type(found.averages) is tuple
    store.close()
