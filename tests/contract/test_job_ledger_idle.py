"""Claimants that have nothing to do: they listen, are told of work, and leave a few images time to gather."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from iqdb_core.jobs import Done, Idling, JobLedger, Keys, Lane, PutBack, RedisPort, Submission, WorkLedger
from tests.fixtures.ledgers import keys
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from tests.fixtures.redis import RedisServer

LONG = Idling(linger_s=4)
GATHERING = Idling(linger_s=4, gather_s=4)


def accept_bulk(ledger: JobLedger, count: int = 1) -> int:
    """Return how many messages are missing."""
    return ledger.accept_all([Submission.of_image(1, b"bulk")] * count).missing_messages


def accept_interactive(ledger: JobLedger) -> int:
    return ledger.accept_all([Submission.of_delete(2, lane=Lane.INTERACTIVE)]).missing_messages


def is_idle(port: RedisPort, work: WorkLedger) -> bool:
    return port.read([("ZSCORE", "iqdb:idle", work.claimant)])[0] is not None


class Listener(threading.Thread):
    """A claimant that waits once, after a claim that got nothing."""

    def __init__(self, work: WorkLedger, idling: Idling) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.idling = idling
        self.empty = work.claim(idling=idling)
        assert self.empty.jobs == []
        self.is_called: bool | None = None
        self.start()

    def run(self) -> None:
        self.is_called = self.work.wait(self.empty, self.idling)

    def heard(self) -> bool | None:
        self.join(10)
        assert not self.is_alive()
        return self.is_called


def test_who_listens_is_told_instead_of_a_message(ledger: JobLedger, work: WorkLedger) -> None:
    listener = Listener(work, LONG)
    assert accept_bulk(ledger, 3) == 0
    assert listener.heard() is True
    assert len(work.claim().jobs) == 3


def test_one_that_listens_is_told_and_the_rest_are_messages(
    ledger: JobLedger, work: WorkLedger, another: WorkLedger
) -> None:
    first, second = Listener(work, LONG), Listener(another, LONG)
    assert accept_bulk(ledger, 32) == 0  # one claim: one is told
    wait_until(lambda: [first.is_called, second.is_called].count(True) == 1, 30)
    assert accept_bulk(ledger, 96) == 2  # 4 claims wait: for one told before, one told now, two messages
    assert first.heard()
    assert second.heard()


def test_nobody_says_anything(work: WorkLedger, redis_port: RedisPort) -> None:
    assert Listener(work, Idling(linger_s=0.05)).heard() is False
    wait_until(lambda: work.sweep("w") == 0 and not is_idle(redis_port, work), 30)


@pytest.mark.parametrize("idling", [Idling(linger_s=1e-5), Idling(linger_s=4, gather_s=1e-5)])
def test_a_pause_that_rounds_to_nothing_is_short(
    ledger: JobLedger, work: WorkLedger, redis_port: RedisPort, idling: Idling
) -> None:
    breaks = redis_port.breaks
    listener = Listener(work, idling)
    if idling.gather_s:
        wait_until(lambda: is_idle(redis_port, work), 30)
        assert accept_bulk(ledger) == 0
    assert listener.heard() is (idling.gather_s > 0)
    assert redis_port.breaks == breaks, "Redis has answered"


def test_who_said_it_listens_and_died_is_missed(
    ledger: JobLedger, work: WorkLedger, another: WorkLedger
) -> None:
    work.claim(idling=LONG)
    assert accept_bulk(ledger) == 0  # told to the dead
    wait_until(lambda: another.sweep("w") == 1, 30)  # its word was worth a second


def test_who_is_known_to_be_dead_is_not_told(
    ledger: JobLedger, work: WorkLedger, another: WorkLedger, redis_server: RedisServer
) -> None:
    work.claim(idling=LONG)
    another.forfeit(work.claimant)
    assert accept_bulk(ledger) == 1
    assert not {key for key in keys(redis_server) if "wake" in key or "idle" in key}


def test_a_claim_ends_the_listening(ledger: JobLedger, work: WorkLedger, redis_server: RedisServer) -> None:
    work.claim(idling=LONG)
    accept_bulk(ledger)
    claim = work.claim(idling=LONG)
    assert len(claim.jobs) == 1
    assert work.finish_and_claim(claim, [Done(claim.jobs[0].job_id, 1, None)], idling=LONG).jobs == []
    work.claim()
    assert not {key for key in keys(redis_server) if "wake" in key or "idle" in key or "woken" in key}


def test_a_few_of_bulk_gather(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger, 3)
    early = work.claim(idling=GATHERING)
    assert (early.jobs, early.waiting) == ([], 3)
    assert accept_bulk(ledger, 4) == 0  # it will claim soon
    assert len(work.claim(idling=Idling(linger_s=4)).jobs) == 7


def test_a_full_claim_need_not_gather(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger, 32)
    assert len(work.claim(idling=GATHERING).jobs) == 32


def test_bulk_that_is_old_enough_is_claimed(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger)
    wait_until(lambda: bool(work.claim(idling=Idling(linger_s=1, gather_s=0.1)).jobs), 30)


def test_what_is_put_back_does_not_gather_again(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger)
    claim = work.claim()
    gathering = Idling(linger_s=1, gather_s=0.05)
    work.finish(claim, [PutBack(job.job_id) for job in claim.jobs])
    wait_until(lambda: bool(work.claim(idling=gathering).jobs), 30)


def test_who_is_waited_for_ends_the_gathering(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger, 3)
    listener = Listener(work, GATHERING)
    assert accept_interactive(ledger) == 0
    assert listener.heard() is True
    assert [job.image_id for job in work.claim(idling=GATHERING).jobs] == [2]


def test_enough_for_a_claim_end_the_gathering(ledger: JobLedger, work: WorkLedger) -> None:
    accept_bulk(ledger, 3)
    listener = Listener(work, GATHERING)
    assert accept_bulk(ledger, 29) == 0
    assert listener.heard() is True
    assert len(work.claim(idling=GATHERING).jobs) == 32


def test_another_prefix_is_not_told(ledger: JobLedger, redis_port: RedisPort) -> None:
    yours = WorkLedger(redis_port, keys=Keys("other:"))
    yours.claim(idling=LONG)
    assert accept_bulk(ledger) == 1
