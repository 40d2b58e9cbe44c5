"""Store, follower and index together answer like a dict, whatever is written, however often they restart."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures.index_rows import random_rows, signature_at
from tests.naive_index import NaiveIndex

if TYPE_CHECKING:
    from iqdb_core.model import Signature

AVERAGES, POSITIONS = random_rows(np.random.default_rng(8), 30, n_positions=80)
AVERAGES[0] = 0
POOL = [signature_at(AVERAGES, POSITIONS, row) for row in range(30)]
OPTIONS = IndexOptions(head_capacity=4, merge_fan_out=3, max_dead_share=0.34)

ids = st.one_of(st.integers(0, 12), st.sampled_from([2**31, 2**63 - 1]))
rows = st.integers(0, len(POOL) - 1)
writes = st.lists(st.tuples(ids, st.one_of(rows, rows, st.none())), min_size=1, max_size=10)


class EmbeddedMachine(RuleBasedStateMachine):
    """What `iqdb http` consists of, without HTTP, beside a dict of the live images."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="embedded-machine-"))
        self.images: dict[int, Signature] = {}
        self.newest: dict[int, int] = {}
        self.revision = 100
        self.backup: tuple[dict[int, Signature], dict[int, int]] | None = None
        self._open()

    def _open(self) -> None:
        self.store = open_store(str(self.folder / "iqdb.sqlite"))
        self.index = ImageIndex.open(self.folder / "index", store_id=self.store.store_id, options=OPTIONS)
        self.follower = Follower(
            self.store,
            self.index,
            cursor=self.index.applied_seq,
            lineage=self.index.lineage,
            poll_s=60,
        )
        self.follower.catch_up()

    def _write(self, image_id: int, revision: int, row: int | None) -> Write:
        if revision > self.newest.get(image_id, -1):
            self.newest[image_id] = revision
            if row is None:
                self.images.pop(image_id, None)
            else:
                self.images[image_id] = POOL[row]
        return Write(image_id, revision, None if row is None else POOL[row])

    @rule(changes=writes)
    def write(self, changes: list[tuple[int, int | None]]) -> None:
        batch = []
        for image_id, row in changes:
            self.revision += 1
            batch.append(self._write(image_id, self.revision, row))
        self.store.apply(batch)
        self.follower.catch_up()

    @rule(image_id=ids, row=st.one_of(rows, st.none()), age=st.integers(0, 60))
    def write_late(self, image_id: int, row: int | None, age: int) -> None:
        """Apply a write that was accepted some time ago."""
        self.store.apply([self._write(image_id, self.revision - age, row)])
        self.follower.catch_up()

    @rule()
    def maintain(self) -> None:
        self.index.maintain()

    @rule(is_checkpointed=st.booleans())
    def restart(self, *, is_checkpointed: bool) -> None:
        if is_checkpointed:
            self.index.save_checkpoint()
        self._close()
        self._open()

    @rule()
    def lose_the_index(self) -> None:
        self._close()
        shutil.rmtree(self.folder / "index")
        self._open()

    @rule(is_running=st.booleans())
    def back_up(self, *, is_running: bool) -> None:
        backup = self.folder / "backup.sqlite"
        backup.unlink(missing_ok=True)
        if is_running:
            self.store.backup(backup)
        else:
            self._close()
            shutil.copy(self.folder / "iqdb.sqlite", backup)
            self._open()
        self.backup = dict(self.images), dict(self.newest)

    @precondition(lambda self: self.backup is not None)
    @rule(is_running=st.booleans())
    def put_the_backup_back(self, *, is_running: bool) -> None:
        assert self.backup is not None
        if not is_running:
            self._close()
        for path in self.folder.glob("iqdb.sqlite-*"):
            path.unlink()
        shutil.copy(self.folder / "backup.sqlite", self.folder / "new.sqlite")
        (self.folder / "new.sqlite").rename(self.folder / "iqdb.sqlite")
        images, newest = self.backup
        self.images, self.newest = dict(images), dict(newest)
        if not is_running:
            self._open()
        self.follower.catch_up()

    @precondition(lambda self: self.backup is not None)
    @rule(changes=writes)
    def restore_the_backup_in_place(self, changes: list[tuple[int, int | None]]) -> None:
        """As `.restore` of sqlite3 does, and write before the follower has looked."""
        assert self.backup is not None
        with (
            closing(sqlite3.connect(self.folder / "backup.sqlite")) as source,
            closing(sqlite3.connect(self.folder / "iqdb.sqlite")) as target,
        ):
            source.backup(target)
        images, newest = self.backup
        self.images, self.newest = dict(images), dict(newest)
        self.write(changes)

    @rule(row=rows, limit=st.sampled_from([1, 5, 1000]), min_score=st.sampled_from([None, 0.0, 60.0]))
    def query(self, row: int, limit: int, min_score: float | None) -> None:
        expected = NaiveIndex(self.images).query(POOL[row], limit, min_score)
        assert self.index.query(POOL[row], limit, min_score) == expected

    @invariant()
    def counts_agree(self) -> None:
        assert self.index.image_count == self.store.live_count() == len(self.images)

    def _close(self) -> None:
        self.index.close()
        self.store.close()

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self._close()
            shutil.rmtree(self.folder)


TestEmbedded = EmbeddedMachine.TestCase
TestEmbedded.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
