"""Revisions only ever grow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.clock import RevisionClock
from iqdb_core.model import WriteOutcome


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


def stale(by: int, newest: int) -> WriteOutcome:
    return WriteOutcome(1, is_stale=True, revision=by, newest_revision=newest)


def test_a_process_ahead_of_the_clock_is_told_apart_from_a_later_write() -> None:
    """The store's newest revision is 1000, the time is 5: both count on from there."""
    clock = RevisionClock(count(5).__next__, 1000)
    first, second = clock.next(), clock.next()
    assert (first, second) == (1001, 1002)
    assert not clock.is_outrun(first, stale(second, second)), "the newer write is of here"
    assert clock.is_outrun(first, stale(1050, 1100))
    assert clock.is_outrun(second, stale(1002, 1100)), "no revision of here is given twice"
    again = clock.next()
    assert again == 1101
    assert not clock.is_outrun(first, stale(again, again))
    assert not clock.is_outrun(first, stale(second, again))


def test_a_write_is_outrun_by_a_process_ahead_of_the_clock() -> None:
    """As by a file that was put in place of the one whose newest revision the clock began at."""
    clock = RevisionClock(count(5).__next__, 0)
    first, second = clock.next(), clock.next()
    assert clock.is_outrun(first, stale(900, 1000))
    assert clock.is_outrun(second, stale(1000, 1000)), "written together with the first"
    again = clock.next()
    assert again == 1001
    assert not clock.is_outrun(second, stale(again, again)), "the newer write is of here"


def test_every_write_tells_how_far_others_have_counted() -> None:
    clock = RevisionClock(lambda: 5, 1000)
    assert not clock.is_outrun(clock.next(), WriteOutcome(1, is_stale=False, newest_revision=1100))
    assert clock.next() == 1101


def test_a_later_write_by_the_clock_is_not_outrun() -> None:
    clock = RevisionClock(count(5).__next__, 0)
    revision = clock.next()
    assert not clock.is_outrun(revision, stale(revision + 1, revision + 1))
    assert not clock.is_outrun(revision, stale(revision, revision))
