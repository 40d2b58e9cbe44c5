"""Compile the kernels that a server needs into NUMBA_CACHE_DIR, while the container image is built.

Goes through the public interface of each room with a tiny index, as a server does. What it misses is
compiled at the first use, so a kernel added later costs seconds there and nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from iqdb_core import codec
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.model import ChangeBatch
from iqdb_core.signature import from_channels, warm_up

CAPACITY = 16
ROUNDS = 6


def random_changes(random: np.random.Generator, first_seq: int, *, is_live: bool) -> ChangeBatch:
    """Return changes to the ids 0 to CAPACITY - 1 (live) or to half of them (tombstones)."""
    count = CAPACITY if is_live else CAPACITY // 2
    return ChangeBatch(
        seqs=np.arange(first_seq, first_seq + count, dtype=np.int64),
        image_ids=np.arange(count, dtype=np.int64),
        is_live=np.full(count, is_live),
        averages=random.random((count, 3)) * is_live,
        positions=(random.integers(1, 2000, (count, 3, 40)) * is_live).astype(np.int16),
    )


def main() -> None:
    """Use everything once."""
    warm_up()
    random = np.random.default_rng(1)
    query = from_channels(*random.integers(0, 256, (3, 128 * 128)))
    query = codec.from_hash(codec.to_hash(query))
    options = IndexOptions(head_capacity=CAPACITY, merge_fan_out=2)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # the second time over the checkpoint's read-only arrays
            index = ImageIndex.open(Path(folder), store_id="kernels", options=options)
            for _ in range(ROUNDS):
                for is_live in (True, False, True):
                    index.apply(random_changes(random, index.applied_seq + 1, is_live=is_live))
                    index.maintain()
                    index.query(query)
            index.save_checkpoint()
            index.close()


if __name__ == "__main__":
    main()
