"""The first opening of an IQDB file: SQLite itself fills the feed, and says the same as row by row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.model import Signature
from iqdb_core.signature.turns import Turn, turned_signature
from iqdb_core.store import open_store, takeover
from iqdb_core.store.columns import digests, signature_columns
from iqdb_core.store.databases import sqlite_takeover
from tests.contract.test_store_receiver import Recorder
from tests.contract.test_store_sqlite import BROKEN_ROWS
from tests.fixtures.stores import IQDB_TABLE, IqdbFile, all_changes, put, signature

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.store import SignatureStore


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_takeover, "GROUP", 4)


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


N_IMAGES = 9


def turned(number: int, turn: Turn = Turn.MIRROR) -> Signature:
    """Return signature `number` of the picture turned: its averages are the same to the bit."""
    found = turned_signature(signature(number), turn)
    assert found.averages == signature(number).averages
    assert found != signature(number)
    return found


def fill(iqdb: IqdbFile) -> None:
    for number in range(N_IMAGES):
        iqdb.add(number, signature(number))


def told_since(store: SignatureStore, cursor: int) -> dict[int, Signature | None]:
    return {image_id: found for _, image_id, found in all_changes(store, cursor=cursor)}


def known_digests(iqdb: IqdbFile) -> dict[int, int]:
    return dict(iqdb.run("SELECT post_id, digest FROM iqdb_feed"))


def whole_digest(found: Signature) -> int:
    return digests(*signature_columns([found]))[0]


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("is_received", [True, False])
@pytest.mark.parametrize("turn", [turn for turn in Turn if turn is not Turn.NONE])
def test_a_picture_that_is_replaced_by_itself_turned_is_noticed(
    path: Path, iqdb: IqdbFile, turn: Turn, *, is_received: bool
) -> None:
    fill(iqdb)
    open_store(str(path), receiver=Recorder(is_willing=is_received)).close()
    iqdb.replace(8, turned(8, turn))
    with closing(open_store(str(path))) as store:
        assert told_since(store, N_IMAGES) == {8: turned(8, turn)}
        assert store.get(8) == turned(8, turn)
    assert known_digests(iqdb)[8] == whole_digest(turned(8, turn))
    with closing(open_store(str(path))) as store:
        assert store.head_seq() == N_IMAGES + 1, "nothing is taken in again"


def test_several_of_the_newest_pictures_are_replaced_by_themselves_turned(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    open_store(str(path)).close()
    for number in (6, 7, 8):
        iqdb.remove(number)
    for number in (6, 7, 8):
        iqdb.add(number, signature(7) if number == 7 else turned(number))
    with closing(open_store(str(path))) as store:
        assert told_since(store, N_IMAGES) == {6: turned(6), 8: turned(8)}


@pytest.mark.usefixtures("small_groups")
def test_the_feed_knows_every_row_whole_after_a_first_takeover(path: Path, iqdb: IqdbFile) -> None:
    """Also where IQDB has deleted rows."""
    fill(iqdb)
    for number in (0, 2, 3, 6):
        iqdb.remove(number)
    iqdb.add(20, signature(20))
    open_store(str(path)).close()
    kept = (1, 4, 5, 7, 8, 20)
    assert known_digests(iqdb) == {number: whole_digest(signature(number)) for number in kept}


@pytest.mark.usefixtures("small_groups")
def test_an_old_picture_that_is_replaced_by_itself_turned_is_noticed_when_all_is_compared(
    path: Path, iqdb: IqdbFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything behind it was put back as it was, so that its row has the same id."""
    monkeypatch.setattr(takeover, "_TAIL", 3)
    fill(iqdb)
    open_store(str(path)).close()
    for number in (6, 7, 8):
        iqdb.remove(number)
    iqdb.replace(5, turned(5))
    for number in (6, 7, 8):
        iqdb.add(number, signature(number))
    iqdb.remove(0)
    with closing(open_store(str(path))) as store:
        assert told_since(store, N_IMAGES) == {0: None, 5: turned(5)}
        assert store.check().findings == []
