"""Whatever is done to an index, in whatever order, it answers like a dict of all live images."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iqdb_core.errors import IndexStateError
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.disk.sealer import NewMember
from iqdb_core.index.rows import Rows
from tests.fixtures.index_rows import Feed, random_rows, signature_at
from tests.naive_index import NaiveIndex, naive_bucket_counts

if TYPE_CHECKING:
    from iqdb_core.model import ChangeBatch

# Few positions, so that images share many and buckets empty again; a black image and a grey one among them.
AVERAGES, POSITIONS = random_rows(np.random.default_rng(5), 60, n_positions=60)
AVERAGES[0] = 0
POOL = [signature_at(AVERAGES, POSITIONS, row) for row in range(60)]
IDS = [*range(40), 2**31, 2**62, 2**63 - 1]
TINY = IndexOptions(head_capacity=4, merge_fan_out=3, max_dead_share=0.34)

ids = st.sampled_from(IDS)
rows = st.integers(0, len(POOL) - 1)
changes = st.dictionaries(ids, st.one_of(rows, rows, st.none()), min_size=1, max_size=12)
Changes = dict[int, int | None]


class IndexMachine(RuleBasedStateMachine):
    """An index beside its model; the index is closed and opened again, the model is not."""

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="index-machine-"))
        self.feed = Feed()
        self.model = NaiveIndex()
        self.saved = (0, dict(self.model.images))
        self.index = self._opened()

    def _opened(self) -> ImageIndex:
        return ImageIndex.open(self.directory, store_id="store", options=TINY)

    def _batch(self, changes: Changes) -> ChangeBatch:
        return self.feed.batch(*[(key, None if row is None else POOL[row]) for key, row in changes.items()])

    @rule(changes=changes)
    def apply(self, changes: Changes) -> None:
        batch = self._batch(changes)
        self.index.apply(batch)
        self.model.apply(batch)

    @rule(changes=changes)
    def apply_twice(self, changes: Changes) -> None:
        batch = self._batch(changes)
        self.index.apply(batch)
        self.index.apply(batch)
        self.model.apply(batch)

    @rule()
    def delete_everything(self) -> None:
        if self.model.images:
            batch = self.feed.deletes(self.model.images)
            self.index.apply(batch)
            self.model.apply(batch)

    @rule()
    def maintain(self) -> None:
        self.index.maintain()

    @rule(changes=changes)
    def change_during_a_merge(self, changes: Changes) -> None:
        batch = self._batch(changes)
        sealer = self.index._sealer
        seal = sealer.seal

        def seal_then_apply(rows: Rows) -> NewMember:
            made = seal(rows)
            sealer.seal = seal  # type: ignore[method-assign]
            self.index.apply(batch)
            return made

        sealer.seal = seal_then_apply  # type: ignore[method-assign]
        self.index.maintain()
        sealer.seal = seal  # type: ignore[method-assign]
        self.index.apply(batch)  # if there was nothing to merge
        self.model.apply(batch)

    @rule()
    def save(self) -> None:
        self.index.save_checkpoint()
        self.saved = (self.feed.seq, dict(self.model.images))

    @rule()
    def restart(self) -> None:
        """What came after the checkpoint is gone, and the feed brings it again."""
        live = self.model.images
        self.index.close()
        self.index = self._opened()
        seq, images = self.saved
        assert self.index.applied_seq == seq
        self.model = NaiveIndex(images)
        self._check_everything()
        again = [(image_id, live.get(image_id)) for image_id in {**images, **live}]
        self.feed.seq = max(seq, self.feed.seq - len(again)) if again else seq
        batch = self.feed.batch(*again)
        self.index.apply(batch)
        self.model.apply(batch)

    @rule()
    def reset(self) -> None:
        self.index.reset()
        assert self.index.applied_seq == 0
        self.feed, self.model = Feed(), NaiveIndex()
        self.saved = (0, {})

    @rule(
        row=rows,
        limit=st.sampled_from([1, 3, 10, 1000]),
        min_score=st.sampled_from([None, -100.0, 0.0, 50.0, 99.9, 101.0]),
    )
    def query(self, row: int, limit: int, min_score: float | None) -> None:
        signature = POOL[row]
        assert self.index.query(signature, limit, min_score) == self.model.query(signature, limit, min_score)

    @rule(image_id=ids)
    def get(self, image_id: int) -> None:
        assert self.index.get(image_id) == self.model.images.get(image_id)

    @invariant()
    def counts_are_exact(self) -> None:
        assert self.index.image_count == len(self.model.images)
        assert self.index.applied_seq == self.feed.seq

    def _check_everything(self) -> None:
        assert self.index.image_count == len(self.model.images)
        assert self.index.query(POOL[7], 1000) == self.model.query(POOL[7], 1000)
        images = list(self.model.images.values())
        if images:
            averages = np.array([signature.averages for signature in images])
            positions = np.array([signature.signed_positions() for signature in images])
            assert (self.index._counts.counts == naive_bucket_counts(averages, positions)).all()
        else:
            assert not self.index._counts.counts.any()

    def teardown(self) -> None:
        self._check_everything()
        self.index.maintain()
        self._check_everything()
        self.index.close()
        try:
            self.index.get(1)
        except IndexStateError:
            shutil.rmtree(self.directory)
        else:
            raise AssertionError("a closed index answered")


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=60, stateful_step_count=30)
