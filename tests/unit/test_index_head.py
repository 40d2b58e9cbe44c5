"""The head: append in place, views that do not move."""

from __future__ import annotations

import numpy as np

from iqdb_core.index.head import Head
from iqdb_core.index.rows import Rows
from tests.fixtures.index_rows import random_rows, signature_at


def filled(n: int, capacity: int = 16) -> tuple[Head, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    rows = random_rows(np.random.default_rng(n), n)
    ids = np.arange(100, 100 + n)
    return Head.create(capacity).with_rows(Rows(ids, *rows)), ids, rows


def test_older_view_does_not_see_rows_appended_later() -> None:
    old, ids, _ = filled(5)
    more = random_rows(np.random.default_rng(9), 3)
    new = old.with_rows(Rows(np.array([1, 2, 3]), *more))
    assert (old.n_rows, old.n_alive, old.n_free) == (5, 5, 11)
    assert (new.n_rows, new.n_alive, new.n_free) == (8, 8, 8)
    assert old.find(np.array([1, 2, 3])).tolist() == []
    assert new.find(np.array([1, 2, 3])).tolist() == [5, 6, 7]
    assert old.live_rows().image_ids.tolist() == ids.tolist()


def test_an_older_view_still_has_rows_that_died_later() -> None:
    old, _, rows = filled(5)
    new = old.without(np.array([0, 3]))
    assert old.find(np.array([100, 103])).tolist() == [0, 3]
    assert new.find(np.array([100, 103])).tolist() == []
    assert new.live_rows().image_ids.tolist() == [101, 102, 104]
    assert new.signature(1) == signature_at(*rows, 1)


def test_an_id_that_died_and_came_back_is_found_in_its_new_row() -> None:
    old, _, _ = filled(3)
    again = random_rows(np.random.default_rng(4), 1)
    head = old.without(np.array([1])).with_rows(Rows(np.array([101]), *again))
    assert head.find(np.array([5, 101, 2**63 - 1])).tolist() == [3]
    assert head.signature(3) == signature_at(*again, 0)


def test_an_append_that_was_never_published_leaves_no_trace() -> None:
    old, _, _ = filled(2)
    old.with_rows(Rows(np.array([7, 8]), *random_rows(np.random.default_rng(5), 2)))
    rows = random_rows(np.random.default_rng(6), 1)
    head = old.with_rows(Rows(np.array([9]), *rows))
    assert head.find(np.array([7, 8, 9])).tolist() == [2]
    assert head.n_rows == 3


def test_empty_head_and_empty_search() -> None:
    head = Head.create(4)
    assert head.find(np.array([1])).tolist() == []
    assert filled(2)[0].find(np.array([], dtype=np.int64)).tolist() == []
    assert head.nbytes == 4 * (8 + 24 + 240 + 1)


def test_a_single_id_is_found_as_among_several() -> None:
    head, ids, _ = filled(12)
    head = head.without(np.array([2, 7]))
    for wanted in (99, *ids.tolist(), 112):
        among = head.find(np.array([-5, wanted, 10**9]))
        assert head.find(np.array([wanted])).tolist() == among.tolist()
