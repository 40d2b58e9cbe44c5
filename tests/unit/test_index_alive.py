"""Alive bitmaps against sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.index.segment import alive as bitmap


@given(st.data())
def test_bitmap_behaves_like_a_set(data: st.DataObject) -> None:
    n_images = data.draw(st.integers(1, 300))
    n_words = (n_images + 63) // 64 + data.draw(st.integers(0, 8))
    alive = bitmap.all_alive(n_images, n_words)
    assert alive.dtype == np.uint64
    assert len(alive) == n_words
    model = set(range(n_images))
    for dead in data.draw(st.lists(st.sets(st.integers(0, n_images - 1)), max_size=4)):
        before = alive.copy()
        after = bitmap.without(alive, np.array(sorted(dead & model), dtype=np.int64))
        assert (alive == before).all()
        model -= dead
        alive = after
    everyone = np.arange(n_images)
    assert bitmap.live_documents(alive).tolist() == sorted(model)
    assert bitmap.are_alive(alive, everyone).tolist() == [doc in model for doc in range(n_images)]
    assert bitmap.count(alive, n_images) == len(model)


def test_bit_of_a_document_is_where_the_scan_looks_for_it() -> None:
    alive = bitmap.without(bitmap.all_alive(130, 3), np.array([0, 65]))
    assert alive.tolist() == [2**64 - 2, 2**64 - 3, 3]


def test_count_sees_bits_behind_the_last_document() -> None:
    assert bitmap.count(bitmap.all_alive(65, 2), 64) == -1
