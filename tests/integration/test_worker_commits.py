"""What a worker does where a commit fails for one job's sake, or meets the writes of another clock."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid, StoreUnavailable
from iqdb_core.jobs import JobState, RedisPort, Submission, WorkLedger
from iqdb_core.model import Signature, Write, WriteOutcome
from iqdb_core.store import open_store
from tests.fixtures.worker_site import IMAGES, SIGNATURES, Killed, Site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

AHEAD_US = 3600 * 1_000_000


@pytest.fixture
def site(redis_port: RedisPort, tmp_path: Path) -> Iterator[Site]:
    store = open_store(f"{tmp_path}/iqdb.sqlite")
    site = Site(redis_port, store, f"{tmp_path.name}:")
    site.accept(Submission.of_delete(10**6))
    site.handler().handle()  # Redis knows all scripts, so that no end of a claim is told twice
    yield site
    store.close()


class Picky:
    """The store of a site, which cannot write some images."""

    def __init__(self, site: Site, error: Exception, *refused: int) -> None:
        self._site = site
        self._error = error
        self._refused = set(refused)

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        if self._refused & {write.image_id for write in writes}:
            raise self._error
        return self._site.store.apply(writes)


@pytest.mark.parametrize(
    "error",
    [UnicodeEncodeError("latin-1", "日", 0, 1, "no room for it"), StoreInvalid("a value that none can have")],
    ids=["bug", "store"],
)
def test_a_job_that_cannot_be_stored_keeps_no_other_from_it(site: Site, error: Exception) -> None:
    job_ids = site.accept_images(5)
    picky = Picky(site, error, 2)
    site.handler(apply=picky.apply).handle()
    assert sorted(site.stored()) == [0, 1, 3, 4]
    done, waiting = JobState.DONE, JobState.QUEUED
    assert site.states(job_ids) == [done, done, waiting, done, done]
    assert site.ledger.get(job_ids[2]).attempts == 1
    # Alone it may be the store's fault, or its own: it waits, and is stored once that is possible.
    site.make_due()
    site.handler(apply=picky.apply).handle()
    assert site.states(job_ids)[2] is waiting
    site.make_due()
    site.handler().handle()
    assert site.states(job_ids)[2] is done


@pytest.mark.parametrize(
    "poison",
    [Submission.of_image(2, IMAGES[2]), Submission.of_signature(2, SIGNATURES[2])],
    ids=["image", "hash"],
)
def test_a_job_that_can_never_be_stored_is_set_aside_while_others_are_stored(
    site: Site, poison: Submission
) -> None:
    picky = Picky(site, StoreInvalid("a value that none can have"), 2)
    handler = site.handler(apply=picky.apply)
    (job_id,) = site.accept(poison)
    for number in range(10, 20):
        site.accept(Submission.of_signature(number, SIGNATURES[number]))
        handler.handle()
        site.make_due()
    job = site.ledger.get(job_id)
    assert (job.state, job.attempts) == (JobState.FAILED, 0)
    assert "set aside" in (job.reason or "")
    assert sorted(site.stored()) == [*range(10, 20)]


def test_a_store_that_goes_while_jobs_are_stored_one_by_one_is_waited_for_once(site: Site) -> None:
    """Or the task would outlast its time limit, and its process with it."""
    job_ids = site.accept_images(10)
    picky = Picky(site, StoreInvalid("a value that none can have"), 4)

    def going(writes: Sequence[Write]) -> list[WriteOutcome]:
        if len(writes) == 1 and writes[0].image_id > 4:
            raise StoreUnavailable("away")
        return picky.apply(writes)

    site.handler(apply=going).handle()
    assert site.seconds < 2 * 10  # of which one is retry_s
    assert site.states(job_ids) == [JobState.DONE] * 4 + [JobState.QUEUED] * 6
    assert [site.ledger.get(job_id).attempts for job_id in job_ids[4:]] == [1, 0, 0, 0, 0, 0]
    assert site.ledger.lanes()["later"][0] == 6  # each leaves it in peace for a while


@pytest.mark.parametrize("count", [1, 3])
def test_a_store_that_takes_nothing_is_the_fault_of_no_image(site: Site, count: int) -> None:
    job_ids = site.accept_images(count)
    picky = Picky(site, StoreInvalid("another schema"), 0, 1, 2)
    for _ in range(4):
        site.handler(apply=picky.apply).handle()
        site.make_due()
    assert site.states(job_ids) == [JobState.QUEUED] * count
    assert [site.ledger.get(job_id).attempts for job_id in job_ids] == [0] * count
    site.handler().handle()
    assert site.states(job_ids) == [JobState.DONE] * count


def test_a_store_that_takes_nothing_any_more_is_not_the_fault_of_the_next_image(site: Site) -> None:
    picky = Picky(site, StoreInvalid("another schema"), 0, 1, 2)
    handler = site.handler(apply=picky.apply)
    site.accept(Submission.of_image(9, IMAGES[9]))
    handler.handle()
    assert sorted(site.stored()) == [9]
    site.accept_images(2)
    handler.handle()
    (job_id,) = site.accept(Submission.of_image(2, IMAGES[2]))
    handler.handle()
    job = site.ledger.get(job_id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def in_an_hour() -> int:
    return time.time_ns() // 1000 + AHEAD_US


def test_what_is_accepted_after_a_clock_that_is_ahead_wrote_is_done(site: Site) -> None:
    """As `iqdb add` does on another machine, straight into the database."""
    site.store.apply([Write(number, in_an_hour(), SIGNATURES[number]) for number in range(6)])
    site.accept(
        Submission.of_signature(1, SIGNATURES[11]),
        Submission.of_delete(2),
        Submission.of_signature(3, SIGNATURES[13]),
        Submission.of_delete(3),
        Submission.of_signature(3, SIGNATURES[23]),
        Submission.of_delete(4),
    )
    site.handler().handle()
    expected = {0: SIGNATURES[0], 1: SIGNATURES[11], 3: SIGNATURES[23], 5: SIGNATURES[5]}
    assert site.stored() == expected
    site.accept(Submission.of_signature(2, SIGNATURES[32]), Submission.of_delete(5))
    site.handler().handle()
    del expected[5]
    assert site.stored() == {**expected, 2: SIGNATURES[32]}


def test_two_workers_keep_the_order_in_which_writes_were_accepted(site: Site) -> None:
    site.store.apply([Write(1, in_an_hour(), SIGNATURES[0])])
    site.accept(Submission.of_signature(1, SIGNATURES[1]), Submission.of_signature(1, SIGNATURES[2]))
    first, second = site.new_claimant(), site.new_claimant()
    early, late = first.claim(1), second.claim(1)
    for work, claim in ((first, early), (second, late)):
        handler = site.handler(ledger=work)
        work.finish(claim, handler._work(claim.jobs))
    assert site.stored() == {1: SIGNATURES[2]}
    third = site.accept(Submission.of_delete(1))
    site.handler().handle()
    assert site.states(third) == [JobState.DONE]
    assert site.stored() == {}


class Others:
    """Workers on a site, one within the other, each of which may be killed around its commits."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        self.site = site
        self.chance = chance
        self.depth = 0

    def work(self) -> None:
        """Claim once in another process."""
        work = WorkLedger(self.site.port, keys=self.site.keys)
        handler = self.site.handler(ledger=work, apply=Interrupted(self).apply)
        self.depth += 1
        try:
            claim = work.claim(self.chance.choice([1, 2, 32]))
            if claim.jobs:
                work.finish(claim, handler._work(claim.jobs))
        except Killed:
            WorkLedger(self.site.port, keys=self.site.keys).forfeit(work.claimant)
            self.site.make_due()
        finally:
            self.depth -= 1


class Interrupted:
    """The store of one worker. Others are at work between its claim and its first commit."""

    def __init__(self, others: Others) -> None:
        self._others = others
        self._has_begun = False

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        others = self._others
        if not self._has_begun and others.depth < 3 and others.chance.random() < 0.5:
            others.work()
        self._has_begun = True
        self._perhaps_die()
        outcomes = others.site.store.apply(writes)
        self._perhaps_die()
        return outcomes

    def _perhaps_die(self) -> None:
        if self._others.chance.random() < 0.1:
            raise Killed


@pytest.mark.parametrize("seed", range(30))
def test_what_was_accepted_last_stays_whoever_is_killed_and_whatever_clock_is_ahead(
    site: Site, seed: int
) -> None:
    chance = random.Random(seed)
    others = Others(site, chance)
    last: dict[int, Signature | None] = {}
    for round_ in range(12):
        if round_ < 8 and chance.random() < 0.4:
            # Somebody writes past the queue; what was accepted before may be older or newer than that.
            ahead = max(site.store.max_revision(), in_an_hour() - AHEAD_US) + chance.choice([1, 5, AHEAD_US])
            site.store.apply([Write(number, ahead, SIGNATURES[39]) for number in range(3)])
            last.clear()
        for _ in range(chance.randrange(4)):
            number, picture = chance.randrange(3), chance.choice([None, *SIGNATURES[:30]])
            last[number] = picture
            site.accept(
                Submission.of_delete(number) if picture is None else Submission.of_signature(number, picture)
            )
        others.work()
    for _ in range(200):
        if site.ledger.depth().queued + site.ledger.depth().running == 0:
            break
        site.make_due()
        others.work()
    stored = site.stored()
    assert {number: stored.get(number) for number in last} == last
    assert site.store.max_revision() < in_an_hour() + 30 * AHEAD_US
