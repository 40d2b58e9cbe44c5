"""Writes of the ledger that meet those of another clock: what was accepted last stays, whoever was ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqdb_core.jobs import Done, JobLedger, Submission, WorkLedger
from iqdb_core.model import WriteOutcome

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer

AHEAD_US = 60 * 1_000_000


def stale(met: int, newest: int | None = None) -> WriteOutcome:
    return WriteOutcome(1, is_stale=True, revision=met, newest_revision=met if newest is None else newest)


def accept(ledger: JobLedger, n: int) -> list[int]:
    return [one.revision for one in ledger.accept([Submission.of_delete(1)] * n)]


def test_what_met_a_clock_that_is_ahead_moves_beyond_it_and_keeps_its_order(
    ledger: JobLedger, work: WorkLedger
) -> None:
    first, second, third = accept(ledger, 3)
    met = third + AHEAD_US
    moved = work.renumber([(second, stale(met, newest=met + 7))])[0]
    assert moved is not None
    assert moved > met + 7
    # Those before and after it, which meet it, or what it met.
    assert work.renumber([(first, stale(moved))]) == [None]
    assert work.renumber([(third, stale(moved))]) == [moved + third - second]
    assert work.renumber([(first, stale(met))]) == [moved + first - second]
    assert min(accept(ledger, 2)) > moved + third - second


def test_the_same_question_has_the_same_answer(ledger: JobLedger, work: WorkLedger) -> None:
    """An answer may be lost, and the process that got it may be killed."""
    revisions = accept(ledger, 3)
    asked = [(revision, stale(revisions[-1] + AHEAD_US)) for revision in revisions]
    answers = work.renumber(asked)
    assert answers == sorted(filter(None, answers))
    assert work.renumber(asked) == answers
    # What was written under its new number is met again by its own first one.
    assert work.renumber([(revisions[0], stale(answers[0] or 0))]) == [None]


def test_what_is_newer_stays(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    first, second = accept(ledger, 2)
    # Of this ledger, or of another clock that tells the time.
    assert work.renumber([(first, stale(second))]) == [None]
    with redis_server.client() as client:
        seconds, microseconds = client.time()
    now = seconds * 1_000_000 + microseconds
    assert work.renumber([(second, stale(max(second, now)))]) == [None]
    assert work.renumber([]) == []


def test_what_was_written_before_the_clocks_met_is_not_written_over(
    ledger: JobLedger, work: WorkLedger
) -> None:
    """Of two writes to one image the newer one is in; then another image meets the other clock."""
    older, newer, other = accept(ledger, 3)
    assert work.renumber([(other, stale(other + AHEAD_US))]) != [None]
    assert work.renumber([(older, stale(newer))]) == [None]


def test_a_second_clock_may_be_further_ahead(ledger: JobLedger, work: WorkLedger) -> None:
    first, second, third = accept(ledger, 3)
    once = work.renumber([(first, stale(third + AHEAD_US))])[0]
    assert once is not None
    twice = work.renumber([(second, stale(once + AHEAD_US))])[0]
    assert twice is not None
    assert twice > once + AHEAD_US
    assert work.renumber([(third, stale(twice)), (third, stale(once))]) == [
        twice + third - second,
        once + third - first,
    ]


def test_where_both_count_on_beyond_the_time_equal_numbers_are_two_writes(
    ledger: JobLedger, work: WorkLedger
) -> None:
    (first,) = accept(ledger, 1)
    ahead = work.renumber([(first, stale(first + AHEAD_US))])[0]
    claim = work.claim()
    work.finish(claim, [Done(one.job_id, 1, None) for one in claim.jobs])
    (revision,) = accept(ledger, 1)
    assert ahead is not None
    assert revision > ahead
    moved = work.renumber([(revision, stale(revision))])[0]
    assert moved is not None
    assert moved > revision
    # Where the number tells the time, it is the same write again.
    assert work.renumber([(first, stale(first))]) == [None]
