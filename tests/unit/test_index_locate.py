"""Finding live images over all segments, against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.index.rows import Rows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment.build import build_segment
from iqdb_core.index.segment.locate import locate
from iqdb_core.index.segment.table import SegmentTable
from tests.fixtures.index_rows import random_rows

ids = st.one_of(st.integers(0, 60), st.integers(0, 2**63 - 1), st.sampled_from([0, 2**63 - 1]))


@given(st.lists(st.tuples(st.sets(ids, min_size=1, max_size=30), st.randoms()), max_size=5), st.sets(ids))
def test_located_images_are_those_of_the_dict(drawn: list, wanted: set[int]) -> None:
    model: dict[int, tuple[int, int]] = {}
    segments, bitmaps = [], []
    for segment_no, (held, chance) in enumerate(drawn):
        image_ids = np.array(sorted(held), dtype=np.int64)
        segments.append(
            build_segment(Rows(image_ids, *random_rows(np.random.default_rng(1), len(held)))).segment
        )
        alive = bitmap.all_alive(len(held), segments[-1].n_words)
        # An image lives in one segment at most; others may hold it dead.
        dead = [doc for doc, key in enumerate(image_ids.tolist()) if key in model or chance.random() < 0.3]
        bitmaps.append(bitmap.without(alive, np.array(dead, dtype=np.int64)))
        model |= {
            key: (segment_no, doc) for doc, key in enumerate(image_ids.tolist()) if doc not in set(dead)
        }
        wanted |= set(list(held)[::2])
    table = SegmentTable.create(segments, bitmaps)
    asked = np.array(sorted(wanted), dtype=np.int64)
    found = locate(table, asked)
    assert all(column.dtype == np.int32 for column in found)
    expected = sorted(model[key] for key in wanted if key in model)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
