"""What a file of IQDB holds reaches a receiver in the pass in which it becomes a feed, and is the feed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreError
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.model import QuerySignature
from iqdb_core.store import open_store
from iqdb_core.store.columns import join_batches
from iqdb_core.store.databases import sqlite_takeover
from tests.contract.test_store_sqlite import BROKEN_ROWS
from tests.fixtures.stores import (
    IQDB_TABLE,
    IqdbFile,
    mark_at,
    put,
    signature,
)

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.model import ChangeBatch
    from iqdb_core.store import SignatureStore

N_IMAGES = 11


class Recorder:
    """Takes everything, unless told not to."""

    def __init__(self, *, is_willing: bool = True) -> None:
        self.is_willing = is_willing
        self.expected: list[tuple[str, int]] = []
        self.begun: list[tuple[str, int]] = []
        self.batches: list[ChangeBatch] = []

    def expect(self, store_id: str, n_changes: int) -> None:
        self.expected.append((store_id, n_changes))

    def begin(self, store_id: str, n_images: int) -> bool:
        self.begun.append((store_id, n_images))
        return self.is_willing

    def get_ready(self) -> None:
        assert self.begun
        assert self.batches == []

    def take(self, batch: ChangeBatch) -> None:
        self.batches.append(batch)


class Unwell(Recorder):
    """Has trouble with the second batch."""

    def take(self, batch: ChangeBatch) -> None:
        super().take(batch)
        if len(self.batches) == 2:
            raise RuntimeError("no more")


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_takeover, "GROUP", 4)
    monkeypatch.setattr(sqlite_takeover, "ROWS_PER_FETCH", 3)


def fill(iqdb: IqdbFile, n_images: int = N_IMAGES) -> None:
    for number in range(n_images):
        iqdb.add(1000 - number, signature(number))


def assert_is_the_feed(recorder: Recorder, store: SignatureStore) -> None:
    """What was taken is what everyone else reads, with the same history."""
    expected = store.changes_since(0, 1000)
    taken = join_batches(recorder.batches)
    for name in ("seqs", "image_ids", "is_live", "averages", "positions"):
        found, wanted = getattr(taken, name), getattr(expected, name)
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted), name
    cursor = 0
    for batch in recorder.batches:
        assert batch.feed is not None
        assert batch.feed.head_seq == batch.last_seq
        assert (batch.feed.before, batch.feed.after) == (
            mark_at(store, cursor),
            mark_at(store, batch.last_seq),
        )
        cursor = batch.last_seq
    assert cursor == store.head_seq()


def test_it_gets_the_feed_and_the_table_stays_byte_for_byte(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    before = iqdb.table_digest()
    told: list[tuple[int, int]] = []
    recorder = Recorder()
    with closing(open_store(str(path), receiver=recorder, progress=lambda *done: told.append(done))) as store:
        assert recorder.begun == [(store.store_id, N_IMAGES)]
        assert [len(batch) for batch in recorder.batches] == [4, 4, 3]
        assert_is_the_feed(recorder, store)
        assert store.check().findings == []
        store.apply([put(7, 10)])
    assert told == [(4, N_IMAGES), (8, N_IMAGES), (N_IMAGES, N_IMAGES)]
    iqdb.remove(7)
    assert iqdb.table_digest() == before


@pytest.mark.parametrize("place", [0, 5, N_IMAGES - 1])
@pytest.mark.parametrize("name", [*BROKEN_ROWS, "id -1", "id text", "id half", "average blob", "large"])
def test_an_unusual_row_anywhere(
    path: Path, iqdb: IqdbFile, tmp_path: Path, name: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The feed is the same with a receiver and without, and the receiver gets it."""
    usual = (*signature(77).averages, signature(77).positions)
    odd = {
        "id -1": (-1, *usual),
        "id text": ("seven", *usual),
        "id half": (7.5, *usual),
        "average blob": (7, b"0.5", *usual[1:]),
        "large": (7, 1e300, *usual[1:]),
    }
    row = odd[name] if name in odd else (7, *BROKEN_ROWS[name])
    for number in range(N_IMAGES):
        if number == place:
            iqdb.add_raw(*row)
        else:
            iqdb.add(1000 - number, signature(number))
    other = tmp_path / "other.sqlite"
    other.write_bytes(path.read_bytes())
    recorder = Recorder()
    with closing(open_store(str(path), receiver=recorder)) as store, closing(open_store(str(other))) as plain:
        reports = [one for one in caplog.records if getattr(one, "action", "") == "broken_row"]
        assert len(reports) == (0 if name == "large" else 2), "once for each of the two files"
        assert_is_the_feed(recorder, store)
        for ask in (lambda s: s.live_count(), lambda s: s.head_seq(), lambda s: s.max_revision()):
            assert ask(store) == ask(plain)
        assert [mark_at(store, seq).seq for seq in (0, 1)] == [0, 1]
        assert store.live_count() == N_IMAGES - (name != "large")
        assert store.check().findings == plain.check().findings
    feed = "SELECT * FROM iqdb_feed ORDER BY seq"
    assert iqdb.run(feed) == IqdbFile(other).run(feed)
    with closing(open_store(str(path))) as store:
        assert store.head_seq() == N_IMAGES - name.startswith("id"), "nothing is taken in again"


@pytest.mark.parametrize("is_received", [True, False])
def test_text_that_is_none_keeps_no_file_from_being_opened(
    path: Path, iqdb: IqdbFile, *, is_received: bool
) -> None:
    fill(iqdb, 3)
    iqdb.run(
        "INSERT INTO images VALUES (4, 7, 'a' || CAST(x'ff' AS TEXT), 0.0, 0.0, CAST(x'fffe80' AS TEXT))"
    )
    recorder = Recorder(is_willing=is_received)
    with closing(open_store(str(path), receiver=recorder)) as store:
        assert store.live_count() == 3
        assert [finding.image_id for finding in store.check().findings] == [7]
        assert len(recorder.batches) == is_received
    with closing(open_store(str(path))) as store:
        assert store.head_seq() == 4, "and is not taken in again"


def test_a_file_of_nothing_but_unusable_rows(path: Path, iqdb: IqdbFile) -> None:
    for number in range(5):
        iqdb.add_raw(-1 - number, *signature(number).averages, signature(number).positions)
    recorder = Recorder()
    with closing(open_store(str(path), receiver=recorder)) as store:
        assert recorder.batches == []
        assert store.head_seq() == 0
        store.apply([put(1, 10)])
        assert mark_at(store, 1) != mark_at(store, 0)


def test_a_file_in_another_encoding(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute(IQDB_TABLE)
        connection.commit()
    fill(IqdbFile(path))
    recorder = Recorder()
    with closing(open_store(str(path), receiver=recorder)) as store:
        assert_is_the_feed(recorder, store)
        assert store.check().findings == []


def test_who_does_not_want_them_finds_them_in_the_feed(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    recorder = Recorder(is_willing=False)
    with closing(open_store(str(path), receiver=recorder)) as store:
        assert recorder.batches == []
        assert store.head_seq() == N_IMAGES


def test_later_changes_of_others_are_read_from_the_feed(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    open_store(str(path)).close()
    iqdb.add(7, signature(7))
    recorder = Recorder()
    with closing(open_store(str(path), receiver=recorder)) as store:
        assert recorder.begun == []
        assert recorder.expected == [(store.store_id, N_IMAGES)], "as it was before it was compared"
        assert store.head_seq() == N_IMAGES + 1


def test_a_receiver_that_fails_undoes_the_takeover(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    before = iqdb.table_digest()
    with pytest.raises(RuntimeError, match="no more"):
        open_store(str(path), receiver=Unwell())
    assert iqdb.table_digest() == before
    assert iqdb.run("SELECT name FROM sqlite_master WHERE type = 'table'") == [("images",)]
    with closing(open_store(str(path))) as store:
        assert store.live_count() == N_IMAGES


def test_a_commit_that_fails_is_told_after_everything_was_taken(path: Path, iqdb: IqdbFile) -> None:
    fill(iqdb)
    recorder = Recorder()

    def fail(_: sa.Connection) -> None:
        if recorder.batches:
            raise sqlite3.OperationalError("disk I/O error")

    sa.event.listen(sa.Engine, "commit", fail)
    try:
        with pytest.raises(StoreError):
            open_store(str(path), receiver=recorder)
    finally:
        sa.event.remove(sa.Engine, "commit", fail)
    assert sum(map(len, recorder.batches)) == N_IMAGES
    assert iqdb.run("SELECT name FROM sqlite_master WHERE type = 'table'") == [("images",)]
    again = Recorder()
    with closing(open_store(str(path), receiver=again)) as store:
        assert again.expected == []
        assert_is_the_feed(again, store)
        assert recorder.begun[0][0] != again.begun[0][0], "what was forgotten is of no store"


def test_an_index_that_takes_them_is_the_one_that_follows_the_feed(
    path: Path, iqdb: IqdbFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_takeover, "GROUP", 100)
    for number in range(350):
        if number % 97 == 5:
            iqdb.add_raw(5000 + number, *BROKEN_ROWS["short"])
        else:
            iqdb.add((number * 37) % 1000, signature(number))
    recorder = Recorder()
    with (
        closing(open_store(str(path), receiver=recorder)) as store,
        ImageIndex.open(None, store_id=store.store_id) as taken,
        ImageIndex.open(None, store_id=store.store_id) as followed,
    ):
        for batch in recorder.batches:
            taken.apply(batch)
        Follower(store, followed, cursor=0, poll_s=1.0).catch_up()
        assert (taken.applied_seq, taken.lineage) == (followed.applied_seq, followed.lineage)
        assert taken.image_count == followed.image_count == store.live_count()
        for number in range(0, 350, 7):
            asked = signature(number)
            assert taken.query(asked, 20) == followed.query(asked, 20)
            copies = [index.find_copies([QuerySignature(asked)], limit=5) for index in (taken, followed)]
            assert copies[0] == copies[1]
        # Whoever goes on from here has the same history.
        follower = Follower(store, taken, cursor=taken.applied_seq, lineage=taken.lineage, poll_s=1.0)
        store.apply([put(4, 10**6, 4)])
        follower.catch_up()
        assert follower.restart_reason is None
        assert taken.get(4) == signature(4)
