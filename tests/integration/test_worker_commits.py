"""What a worker does where a commit fails for one job's sake, or meets the writes of another clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid
from iqdb_core.jobs import JobState, RedisPort, Submission
from iqdb_core.model import Write, WriteOutcome
from iqdb_core.store import open_store
from tests.fixtures.redis import RedisServer
from tests.fixtures.worker_site import SIGNATURES, Site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

AHEAD_US = 3600 * 1_000_000


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPort]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    port = RedisPort.connect(server.url)
    yield port
    port.close()
    server.kill()


@pytest.fixture
def site(port: RedisPort, tmp_path: Path) -> Iterator[Site]:
    store = open_store(f"{tmp_path}/iqdb.sqlite")
    site = Site(port, store, f"{tmp_path.name}:")
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
    site.handler(open_store=lambda: picky).handle()
    assert sorted(site.stored()) == [0, 1, 3, 4]
    done, waiting = JobState.DONE, JobState.QUEUED
    assert site.states(job_ids) == [done, done, waiting, done, done]
    assert site.ledger.get(job_ids[2]).attempts == 1
    # Alone it may be the store's fault, or its own: it waits, and is stored once that is possible.
    site.make_due()
    site.handler(open_store=lambda: picky).handle()
    assert site.states(job_ids)[2] is waiting
    site.make_due()
    site.handler().handle()
    assert site.states(job_ids)[2] is done


def test_a_store_that_takes_nothing_is_the_fault_of_no_image(site: Site) -> None:
    job_ids = site.accept_images(3)
    picky = Picky(site, StoreInvalid("another schema"), 0, 1, 2)
    for _ in range(4):
        site.handler(open_store=lambda: picky).handle()
        site.make_due()
    assert site.states(job_ids) == [JobState.QUEUED] * 3
    assert [site.ledger.get(job_id).attempts for job_id in job_ids] == [0, 0, 0]
    site.handler().handle()
    assert site.states(job_ids) == [JobState.DONE] * 3


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
