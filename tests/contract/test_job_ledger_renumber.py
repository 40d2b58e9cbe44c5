"""Writes of the ledger that meet those of another clock: what was accepted last stays, whoever was ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid
from iqdb_core.jobs import Done, JobLedger, PutBack, Submission, WorkLedger
from iqdb_core.model import Write, WriteOutcome

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer

AHEAD_US = 60 * 1_000_000


def stale(met: int, newest: int | None = None) -> WriteOutcome:
    return WriteOutcome(1, is_stale=True, revision=met, newest_revision=met if newest is None else newest)


def write(revision: int, image_id: int = 1) -> Write:
    return Write(image_id, revision, None)


def accept(ledger: JobLedger, n: int) -> list[int]:
    return [one.revision for one in ledger.accept([Submission.of_delete(1)] * n)]


def test_what_met_a_clock_that_is_ahead_moves_beyond_it_and_keeps_its_order(
    ledger: JobLedger, work: WorkLedger
) -> None:
    first, second, third = accept(ledger, 3)
    met = third + AHEAD_US
    moved = work.renumber([(write(second), stale(met, newest=met + 7))])[0]
    assert moved is not None
    assert moved > met + 7
    # Those before and after it, which meet it, or what it met.
    assert work.renumber([(write(first), stale(moved))]) == [None]
    assert work.renumber([(write(third), stale(moved))]) == [moved + third - second]
    assert work.renumber([(write(first), stale(met))]) == [moved + first - second]
    assert min(accept(ledger, 2)) > moved + third - second


def test_the_same_question_has_the_same_answer(ledger: JobLedger, work: WorkLedger) -> None:
    """An answer may be lost, and the process that got it may be killed."""
    revisions = accept(ledger, 3)
    asked = [(write(revision), stale(revisions[-1] + AHEAD_US)) for revision in revisions]
    answers = work.renumber(asked)
    assert answers == sorted(filter(None, answers))
    assert work.renumber(asked) == answers
    # What was written under its new number is met again by its own first one.
    assert work.renumber([(write(revisions[0]), stale(answers[0] or 0))]) == [None]


def test_the_oldest_that_waits_has_the_same_answer_too_when_those_before_it_are_done(
    ledger: JobLedger, work: WorkLedger
) -> None:
    first, second = accept(ledger, 2)
    met = second + AHEAD_US
    assert work.renumber([(write(first), stale(met))]) != [None]
    claim = work.claim()
    done, left = (job.job_id for job in claim.jobs)
    work.finish(claim, [Done(done, 1, None), PutBack(left)])
    asked = [(write(second), stale(met + 9 * AHEAD_US))]
    answer = work.renumber(asked)
    assert answer != [None]
    assert work.renumber(asked) == answer


def test_what_is_newer_stays(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    first, second = accept(ledger, 2)
    # Of this ledger, or of another clock that tells the time.
    assert work.renumber([(write(first), stale(second))]) == [None]
    with redis_server.client() as client:
        seconds, microseconds = client.time()
    now = seconds * 1_000_000 + microseconds
    assert work.renumber([(write(second), stale(max(second, now)))]) == [None]
    assert work.renumber([]) == []


def test_what_was_written_before_the_clocks_met_is_not_written_over(
    ledger: JobLedger, work: WorkLedger
) -> None:
    """Of two writes to one image the newer one is in; then another image meets the other clock."""
    older, newer, other = accept(ledger, 3)
    assert work.renumber([(write(other), stale(other + AHEAD_US))]) != [None]
    assert work.renumber([(write(older), stale(newer))]) == [None]


def test_a_clock_that_redis_cannot_count_is_not_followed(ledger: JobLedger, work: WorkLedger) -> None:
    """All that is accepted from then on would get the same revision, and be dropped as the same write."""
    (first,) = accept(ledger, 1)
    with pytest.raises(StoreInvalid, match="beyond"):
        work.renumber([(write(first), stale(first + AHEAD_US, newest=2**53))])
    assert len(set(accept(ledger, 3))) == 3


def test_a_second_clock_may_be_further_ahead(ledger: JobLedger, work: WorkLedger) -> None:
    first, second, third = accept(ledger, 3)
    once = work.renumber([(write(first), stale(third + AHEAD_US))])[0]
    assert once is not None
    met = once + AHEAD_US
    twice = work.renumber([(write(second), stale(met))])[0]
    assert twice is not None
    assert twice > met
    # Each stands where all moves have brought it, in the old order.
    moved = [work.renumber([(write(revision), stale(met))])[0] for revision in (first, third)]
    assert moved == [twice + first - second, twice + third - second]
    assert work.renumber([(write(third), stale(once))]) == [once + third - first]


def test_the_lead_stays_that_of_the_other_clock(ledger: JobLedger, work: WorkLedger) -> None:
    """While an old job waits, as in a long queue."""
    waiting, *others = accept(ledger, 40)
    met = waiting
    for revision in others:
        met = max(met, waiting) + AHEAD_US
        moved = work.renumber([(write(revision), stale(met))])[0]
        assert moved is not None
        assert met < moved < met + AHEAD_US
        met = moved
    assert accept(ledger, 1)[0] < waiting + 2 * AHEAD_US * len(others)
    moved = work.renumber([(write(waiting), stale(met + AHEAD_US))])[0]
    assert moved is not None


def test_where_both_count_on_beyond_the_time_equal_numbers_are_two_writes(
    ledger: JobLedger, work: WorkLedger
) -> None:
    (first,) = accept(ledger, 1)
    ahead = work.renumber([(write(first), stale(first + AHEAD_US))])[0]
    claim = work.claim()
    work.finish(claim, [Done(one.job_id, 1, None) for one in claim.jobs])
    (revision,) = accept(ledger, 1)
    assert ahead is not None
    assert revision > ahead
    moved = work.renumber([(write(revision), stale(revision))])[0]
    assert moved is not None
    assert moved > revision
    # Where the number tells the time, it is the same write again.
    assert work.renumber([(write(first), stale(first))]) == [None]


def test_what_met_a_number_of_another_image_met_another_clock(ledger: JobLedger, work: WorkLedger) -> None:
    """Both count on beyond the time, each from what the other had: soon each is among the other's numbers."""
    (first,) = accept(ledger, 1)
    assert work.renumber([(write(first), stale(first + AHEAD_US))]) != [None]
    early, _, other, late = (
        one.revision for one in ledger.accept([Submission.of_delete(image_id) for image_id in (1, 1, 2, 1)])
    )
    assert work.renumber([(write(early), stale(late))]) == [None]
    moved = work.renumber([(write(early), stale(other))])[0]
    assert moved is not None
    assert moved > late
