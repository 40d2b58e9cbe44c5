"""Jobs that are to replace no image, on a real Redis and a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iqdb_core.jobs import Failed, JobState, RedisPort, Submission
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures import stores
from tests.fixtures.worker_site import IMAGES, SIGNATURES, Killed, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(redis_port: RedisPort, tmp_path: Path) -> Iterator[Site]:
    store = open_store(str(tmp_path / "iqdb.sqlite"))
    yield Site(redis_port, store, "if-absent:")
    store.close()


def test_the_wish_reaches_the_worker(site: Site) -> None:
    site.accept(
        Submission.of_image(1, IMAGES[1], if_absent=True, source="mine"),
        Submission.of_image(2, IMAGES[2]),
        Submission.of_signature(3, SIGNATURES[3], if_absent=True),
        Submission.of_delete(4),
    )
    claim = site.work.claim()
    assert [(job.image_id, job.if_absent) for job in claim.jobs] == [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
    ]
    assert claim.jobs[0].source == "mine"


def test_a_job_that_may_replace_has_a_record_as_before(site: Site) -> None:
    """One that an older version accepted is a plain write, and may be claimed by one."""
    (job_id,) = site.accept(Submission.of_image(1, IMAGES[1]))
    assert not site.port.read([("HEXISTS", f"{site.prefix}job:{job_id}", "if_absent")])[0]


def test_an_image_that_is_there_stays_and_the_job_says_so(site: Site) -> None:
    site.store.apply([stores.put(7, 100)])
    job_ids = site.accept(
        Submission.of_image(7, IMAGES[1], if_absent=True),
        Submission.of_image(8, IMAGES[2], if_absent=True),
        Submission.of_signature(8, SIGNATURES[3], if_absent=True),
    )
    site.handler().handle()
    assert site.stored() == {7: stores.signature(100), 8: SIGNATURES[2]}
    jobs = [site.ledger.get(job_id) for job_id in job_ids]
    assert [(job.state, job.error) for job in jobs] == [
        (JobState.FAILED, "ImageExists"),
        (JobState.DONE, ""),
        (JobState.FAILED, "ImageExists"),
    ]
    assert [job.seq for job in jobs] == [1, 2, 2], "of the image that is there, which can be waited for"
    assert jobs[0].reason == "an image has the id 7 already"
    assert site.payloads() == []


def test_other_failures_name_no_seq(site: Site) -> None:
    (job_id,) = site.accept_images(1)
    claim = site.work.claim()
    site.work.finish(claim, [Failed(job_id, "broken", "CorruptImage")])
    assert site.ledger.get(job_id).seq is None


def test_a_worker_that_committed_and_died_was_not_in_its_own_way(site: Site) -> None:
    job_ids = site.accept(
        Submission.of_image(1, IMAGES[1], if_absent=True), Submission.of_image(2, IMAGES[2], if_absent=True)
    )

    def dying(writes: list[Write]) -> None:
        site.store.apply(writes)
        raise Killed

    with pytest.raises(Killed):
        site.handler(apply=dying).handle()
    site.bury()
    assert site.handler().handle() == 0
    assert site.states(job_ids) == [JobState.DONE, JobState.DONE]
    assert site.stored() == {1: SIGNATURES[1], 2: SIGNATURES[2]}
