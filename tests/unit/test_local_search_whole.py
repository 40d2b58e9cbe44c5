"""While an index is filled again after a restore, no question is answered from a part of it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.search.duplicates import DuplicatesWanted
from api.search.interface import CopiesWanted
from api.search.local import LocalSearch
from iqdb_core.errors import IndexNotReady
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.store import open_store
from tests.fixtures.stores import put, signature

if TYPE_CHECKING:
    from pathlib import Path

    from iqdb_core.model import ChangeBatch


class HalfWay(ImageIndex):
    """An index that is asked between two batches."""

    asked: LocalSearch | None = None
    refusals = 0

    def apply(self, batch: ChangeBatch) -> None:
        super().apply(batch)
        if self.asked is not None and self.applied_seq < 4:
            for question in (
                self.asked.query(signature(1), 10, None),
                self.asked.sketch(signature(1), 10, None),
                self.asked.find_copies([], CopiesWanted(10)),
                self.asked.duplicates(DuplicatesWanted(-1, 0.5, 0.0, 0.0)),
                self.asked.get(1),
            ):
                with pytest.raises(IndexNotReady, match="put back to another state"):
                    asyncio.run(question)
                self.refusals += 1


def test_nothing_is_answered_from_a_part_of_the_index(tmp_path: Path) -> None:
    with (
        closing(open_store(str(tmp_path / "store.sqlite"))) as store,
        HalfWay.open(None, store_id=store.store_id) as index,
    ):
        assert isinstance(index, HalfWay)
        store.apply([put(k, 1) for k in range(5)])
        # It holds more than the store ever had: the store was put back.
        follower = Follower(store, index, cursor=9, poll_s=60.0, batch=2)
        search = LocalSearch(index, follower, store=store)
        index.asked = search
        follower.catch_up()
        assert index.refusals >= 5
        index.asked = None
        assert len(asyncio.run(search.query(signature(1), 10, None))) == 5
        assert asyncio.run(search.get(1)) == signature(1)
        search.close()
