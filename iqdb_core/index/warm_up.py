"""Compiles or loads every kernel of the index before the first user needs one.

Uses the public interface with a tiny index, as a server does, so that argument types are the real ones.
Called by composition roots at start, and when a container image is built. A kernel that it misses would be
compiled at its first use.
"""

from __future__ import annotations

import importlib
from typing import Final

import numpy as np

from iqdb_core.index.image_index import ImageIndex
from iqdb_core.index.options import IndexOptions
from iqdb_core.index.ranking.arithmetic import MIN_SHARED_SEGMENTS
from iqdb_core.model import CHANNELS, KEPT, ChangeBatch, QuerySignature, Signature
from iqdb_core.temporary import TemporaryFolder

_QUERY_KERNELS: Final = (
    ("iqdb_core.index.ranking.search", "search_part"),
    ("iqdb_core.index.row_code.coding", "decode_positions"),
)
_CAPACITY: Final = 16


def warm_up() -> None:
    """Use every kernel once: takes half a minute if they have to be compiled, else a fraction of a second."""
    random = np.random.default_rng(1)
    positions = random.permutation(2000)[: CHANNELS * KEPT].astype("<i2") + 1
    query = Signature((0.5, 0.1, 0.1), positions.tobytes())
    options = IndexOptions(head_capacity=_CAPACITY, merge_fan_out=2)
    with TemporaryFolder("warm-up") as folder:
        for _ in range(2):  # the second time with arrays of the checkpoint
            with ImageIndex.open(folder.path / "index", store_id="warm-up", options=options) as index:
                for is_live in (True, False, True):
                    index.apply(_changes(random, index.applied_seq + 1, is_live=is_live))
                    index.maintain()
                    index.query(query)
                    index.query(query, min_score=50.0)
                    index.find_copies([QuerySignature(query), QuerySignature(query)], limit=1)
                    index.get(1)
                index.save_checkpoint()
    several = IndexOptions(head_capacity=_CAPACITY, merge_fan_out=100, query_threads=2)
    with ImageIndex.open(None, store_id="warm-up", options=several) as index:
        for part in range(2 * MIN_SHARED_SEGMENTS):  # enough segments for two threads to share
            index.apply(_changes(random, part * _CAPACITY + 1, is_live=True, first_id=part * _CAPACITY))
        index.query(query)


def load_for_queries() -> None:
    """Load the kernels of queries from disk without calling them, for a server about to be queried."""
    # Imported here: a process that compiles nothing loads no compiler.
    kernel = importlib.import_module("iqdb_core.kernel")
    for module, name in _QUERY_KERNELS:
        kernel.load_kept(getattr(importlib.import_module(module), name))


def _changes(random: np.random.Generator, first_seq: int, *, is_live: bool, first_id: int = 0) -> ChangeBatch:
    """Return changes to as many ids as the head has rows (live), or to half of them (tombstones)."""
    count = _CAPACITY if is_live else _CAPACITY // 2
    return ChangeBatch(
        seqs=np.arange(first_seq, first_seq + count, dtype=np.int64),
        image_ids=np.arange(first_id, first_id + count, dtype=np.int64),
        is_live=np.full(count, is_live),
        averages=random.random((count, CHANNELS)) * is_live,
        positions=(random.integers(1, 2000, (count, CHANNELS, KEPT)) * is_live).astype(np.int16),
    )
