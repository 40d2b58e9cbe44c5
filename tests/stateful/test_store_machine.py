"""Random writes, reopenings, edits by IQDB, copies and followers: the store equals a dict all along."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from iqdb_core.errors import UnknownImage
from iqdb_core.follower import Follower
from iqdb_core.model import Mark, Write
from iqdb_core.signature.turns import Turn, turned_signature
from iqdb_core.store import open_store
from iqdb_core.store.migrate import copy_store
from tests.fixtures.stores import (
    IqdbFile,
    all_changes,
    live_images,
    mark_at,
    signature,
)
from tests.naive_store import NaiveStore, as_changes

if TYPE_CHECKING:
    from iqdb_core.model import ChangeBatch, Signature

IMAGE_IDS = st.sampled_from([0, 1, 2, 3, 4, 5, 2**63 - 1])
NUMBERS = st.integers(0, 8)
PICTURES = st.builds(
    lambda number, turn: turned_signature(signature(number), turn), NUMBERS, st.sampled_from(Turn)
)
"""What IQDB puts: pictures, some of which are others turned, with the same averages."""
SOURCES = st.sampled_from(["", "cat.jpg", "https://example.org/7", "\u00e9\U0001f431"])
WRITES = st.builds(
    lambda image_id, revision, number, source, if_absent: Write(
        image_id, revision, None if number is None else signature(number), source, if_absent
    ),
    IMAGE_IDS,
    st.integers(1, 60),
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), SOURCES),
    st.booleans(),
)


class DictSink:
    """An index made of a dict."""

    def __init__(self) -> None:
        self.live: dict[int, Signature] = {}

    def apply(self, batch: ChangeBatch) -> None:
        for _, image_id, found in as_changes(batch):
            if found is None:
                self.live.pop(image_id, None)
            else:
                self.live[image_id] = found

    def reset(self) -> None:
        self.live = {}


class StoreMachine(RuleBasedStateMachine):
    """One store on SQLite, its naive twin, IQDB's hands on the file, and followers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="iqdb-store-"))
        self.path = self.directory / "store.sqlite"
        self.store = open_store(str(self.path))
        self.naive = NaiveStore()
        self.sink = DictSink()
        self.cursor = 0
        self.lineage: Mark | None = None
        self.backup: NaiveStore | None = None
        self.copies = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @rule(writes=st.lists(WRITES, min_size=1, max_size=6))
    def apply(self, writes: list[Write]) -> None:
        assert self.store.apply(writes) == self.naive.apply(writes)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(str(self.path))

    @rule()
    def open_beside(self) -> None:
        # What a killed process leaves: its log, never folded in.
        left_behind, self.store = self.store, open_store(str(self.path))
        left_behind.close()

    @rule(edits=st.lists(st.tuples(IMAGE_IDS, st.one_of(st.none(), PICTURES)), min_size=1, max_size=5))
    def iqdb_edits(self, edits: list[tuple[int, Signature | None]]) -> None:
        self.store.close()
        file = IqdbFile(self.path)
        for image_id, found in edits:
            file.remove(image_id)
            if found is not None:
                file.add(image_id, found)
        edited = file.live()
        self.store = open_store(str(self.path))
        assert live_images(self.store) == edited
        before = self.naive.live()
        told = {
            image_id: (seq, found)
            for seq, image_id, found in all_changes(self.store, cursor=self.naive.head_seq)
        }
        differing = {image_id for image_id in before | edited if before.get(image_id) != edited.get(image_id)}
        # A row removed and added again with the same contents may be told as a change too.
        assert differing <= told.keys() <= {image_id for image_id, _ in edits}
        for image_id, (seq, found) in told.items():
            known = self.naive.latest.get(image_id)
            self.naive.latest[image_id] = Write(image_id, 0 if known is None else known.revision + 1, found)
            self.naive.seqs[image_id] = seq
            if found is None:
                self.naive.sources.pop(image_id, None)
        self.naive.head_seq += len(told)

    @rule(limit=st.integers(1, 5))
    def follow(self, limit: int) -> None:
        follower = Follower(
            self.store, self.sink, cursor=self.cursor, lineage=self.lineage, poll_s=1, batch=limit
        )
        follower.catch_up()
        self.cursor = follower.applied_seq
        self.lineage = mark_at(self.store, self.cursor)
        follower.stop()
        assert self.cursor == self.naive.head_seq
        assert self.sink.live == self.naive.live()

    @precondition(lambda self: self.copies < 2)
    @rule(batch=st.integers(1, 5))
    def move_into_a_copy(self, batch: int) -> None:
        self.copies += 1
        target = self.directory / f"copy-{self.copies}.sqlite"
        copy_store(str(self.path), str(target), batch=batch)
        copied = open_store(str(target))
        assert live_images(copied) == self.naive.live()
        assert copied.sources_of(list(self.naive.latest)) == self.naive.sources
        copied.close()

    @rule()
    def back_up(self) -> None:
        path = self.directory / "backup.sqlite"
        path.unlink(missing_ok=True)
        assert self.store.backup(path) == len(self.naive.live())
        self.backup = copy.deepcopy(self.naive)

    @precondition(lambda self: self.backup is not None)
    @rule(is_open=st.booleans())
    def put_the_backup_back(self, *, is_open: bool) -> None:
        if not is_open:
            self.store.close()
        for log in self.directory.glob("store.sqlite-*"):
            log.unlink()
        shutil.copy(self.directory / "backup.sqlite", self.directory / "new.sqlite")
        (self.directory / "new.sqlite").rename(self.path)
        if not is_open:
            self.store = open_store(str(self.path))
        self.naive = copy.deepcopy(self.backup)

    @rule()
    def export(self) -> None:
        exported = list(self.store.export())
        assert {image.image_id: image.signature for image in exported} == self.naive.live()
        assert {image.image_id: image.source for image in exported if image.source} == self.naive.sources
        listed = [image.image_id for image in self.store.ids_after(-1, 100)]
        assert listed == [image.image_id for image in exported] == sorted(self.naive.live())
        assert self.store.missing(range(7)) == [k for k in range(7) if k not in self.naive.live()]

    @rule(repair=st.booleans())
    def check(self, *, repair: bool) -> None:
        assert self.store.check(repair=repair).findings == []

    @invariant()
    def agrees(self) -> None:
        assert all_changes(self.store, limit=3) == self.naive.changes_since(0, 10**9)
        assert self.store.head_seq() == self.naive.head_seq
        assert self.store.sources_of(list(self.naive.latest)) == self.naive.sources
        assert self.store.live_count() == len(self.naive.live())
        assert self.store.max_revision() >= max(
            (write.revision for write in self.naive.latest.values()), default=0
        )
        assert IqdbFile(self.path).live() == self.naive.live()

    @rule(image_id=IMAGE_IDS)
    def get(self, image_id: int) -> None:
        expected = self.naive.live().get(image_id)
        if expected is None:
            with pytest.raises(UnknownImage):
                self.store.get(image_id)
        else:
            assert self.store.get(image_id) == expected


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25)
