"""Revisions only ever grow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.clock import RevisionClock


@given(st.integers(0, 2**62), st.lists(st.integers(0, 2**62)))
def test_revisions_grow_whatever_the_clock_says(floor: int, times: list[int]) -> None:
    now = iter(times)
    clock = RevisionClock(lambda: next(now), floor)
    last = floor
    for time_us in times:
        revision = clock.next()
        assert revision == max(last + 1, time_us)
        last = revision


def test_threads_never_get_the_same_revision() -> None:
    clock = RevisionClock(lambda: 5, 0)
    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(lambda _: clock.next(), range(2000)))
    assert sorted(revisions) == list(range(5, 2005))
