"""The first opening of an IQDB file: SQLite itself fills the feed, and says the same as row by row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.model import Signature
from iqdb_core.store import open_store
from iqdb_core.store.columns import AVERAGE_DIGEST_MASK, average_digests
from iqdb_core.store.databases import sqlite_takeover
from tests.contract.test_store_sqlite import BROKEN_ROWS
from tests.fixtures.stores import IQDB_TABLE, IqdbFile, all_changes, put, signature

if TYPE_CHECKING:
    from pathlib import Path

averages = st.floats(-999_999, 999_999)


@given(st.lists(st.tuples(averages, averages, averages), min_size=1, max_size=20))
def test_sql_and_python_agree_on_digests_of_averages(rows: list[tuple[float, float, float]]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)) as driver:
        driver.execute(IQDB_TABLE)
        driver.execute(
            "CREATE TABLE iqdb_feed (seq INTEGER PRIMARY KEY, post_id INTEGER, revision INTEGER,"
            " state INTEGER, row_id INTEGER, digest INTEGER)"
        )
        insert = "INSERT INTO images (post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?)"
        for number, row in enumerate(rows):
            driver.execute(insert, (number, *row, signature(1).positions))
        assert list(sqlite_takeover.fill(driver)) == [len(rows)]
        found = [row[0] for row in driver.execute("SELECT digest FROM iqdb_feed ORDER BY seq")]
    assert found == average_digests(np.array(rows))
    assert all(-1 - AVERAGE_DIGEST_MASK <= digest < 0 for digest in found)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_takeover, "GROUP", 4)
    monkeypatch.setattr(sqlite_takeover, "FILLED_AT_ONCE", 4)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_groups_with_and_without_a_broken_row(path: Path, iqdb: IqdbFile, name: str) -> None:
    for number in range(11):
        if number == 6:
            iqdb.add_raw(number, *BROKEN_ROWS[name])
        else:
            iqdb.add(1000 - number, signature(number))
    with closing(open_store(str(path))) as store:
        told = [(seq, image_id) for seq, image_id, _ in all_changes(store)]
        expected = [6 if number == 6 else 1000 - number for number in range(11)]
        assert told == list(enumerate(expected, start=1))
        assert store.live_count() == 10
        assert store.head_seq() == 11
        assert [finding.image_id for finding in store.check().findings] == [6]


@pytest.mark.usefixtures("small_groups")
def test_averages_beyond_the_usual_are_taken_over_too(path: Path, iqdb: IqdbFile) -> None:
    unusual = Signature((1e300, -0.0, 5.0), signature(1).positions)
    for number in range(3):
        iqdb.add(number, signature(number))
    iqdb.add(3, unusual)
    with closing(open_store(str(path))) as store:
        assert store.get(3) == unusual
        assert store.live_count() == 4
        assert store.check().findings == []


def test_rows_far_apart_and_below_zero(path: Path, iqdb: IqdbFile) -> None:
    insert = "INSERT INTO images (id, post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?, ?)"
    for row_id, post_id in ((-(2**63) + 1, 5), (-7, 4), (0, 3), (9, 2**63 - 1), (2**62, 1)):
        iqdb.run(insert, row_id, post_id, *signature(1).averages, signature(1).positions)
    with closing(open_store(str(path))) as store:
        assert [image_id for _, image_id, _ in all_changes(store)] == [5, 4, 3, 2**63 - 1, 1]
        assert store.check().findings == []


def test_a_file_in_another_encoding(path: Path) -> None:
    file = IqdbFile(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute(IQDB_TABLE)
        connection.commit()
    for number in range(5):
        file.add(number, signature(number))
    with closing(open_store(str(path))) as store:
        assert store.live_count() == 5
        assert store.get(4) == signature(4)


def test_a_picture_that_takes_anothers_row_is_noticed(path: Path, iqdb: IqdbFile) -> None:
    for number in range(5):
        iqdb.add(number, signature(number))
    open_store(str(path)).close()
    iqdb.replace(4, signature(40))
    with closing(open_store(str(path))) as store:
        assert store.get(4) == signature(40)
        assert [(seq, image_id) for seq, image_id, _ in all_changes(store, cursor=5)] == [(6, 4)]
        store.apply([put(4, 10)])
        assert store.check().findings == []
