"""What a follower knows of the end of the store's feed, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreUnavailable
from iqdb_core.follower import Follower
from iqdb_core.store import open_store
from tests.fixtures.stores import put
from tests.fixtures.waiting import wait_until
from tests.unit.test_follower import LONG_S, NEVER_S, DictSink, UnsteadySource

if TYPE_CHECKING:
    from pathlib import Path


def test_the_head_is_reported_only_after_a_newer_complete_read(tmp_path: Path) -> None:
    """A store that hangs or is away since then may hold more."""
    store, sink = open_store(str(tmp_path / "store.sqlite")), DictSink()
    source = UnsteadySource(store)
    made = Follower(source, sink, cursor=0, poll_s=NEVER_S)
    read_number = made.begun_reads
    assert made.head_since(read_number) is None
    (outcome,) = store.apply([put(1, 1)])
    made.catch_up()
    assert made.head_since(read_number) == outcome.seq
    read_number = made.begun_reads
    source.failure = StoreUnavailable("gone fishing")
    with pytest.raises(StoreUnavailable):
        made.catch_up()
    assert made.head_since(read_number) is None
    read_number = made.begun_reads
    source.failure = None
    sink.gate.clear()
    sink.is_asked.clear()
    store.apply([put(2, 2)])
    made.start()
    assert sink.is_asked.wait(LONG_S)
    assert made.head_since(read_number) is None, "it is being applied"
    sink.gate.set()
    wait_until(lambda: made.head_since(read_number) is not None, LONG_S)
    made.stop()
    store.close()
