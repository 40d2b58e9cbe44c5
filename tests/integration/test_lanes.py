"""A website and a crawler share one queue: who is waited for does not wait for the crawler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from iqdb_core.jobs import JobLedger, JobState, RedisPort, Submission
from iqdb_core.jobs.messages import CLAIM_JOBS
from tests.fixtures import pictures
from tests.fixtures.cluster import running_cluster
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

CLAIMS_BETWEEN = 6
"""One of bulk under way, one that has its turn, and as many again while the answer is on its way."""


def tiny_picture() -> bytes:
    return pictures.encoded(Image.effect_noise((16, 16), 64), "PNG")


def check(tmp_path: Path, queued: int) -> None:
    database = str(tmp_path / "iqdb.sqlite")
    settings = {"IQDB_WORKER_PROCESSES": "1", "IQDB_MAX_QUEUE_JOBS": str(2 * queued)}
    with running_cluster(tmp_path, database, workers=1, **settings) as cluster:
        client = cluster.client
        port = RedisPort.connect(cluster.redis.url)
        ledger = JobLedger(port, revision_floor=lambda: 0)
        for number in range(3):  # everything has been used once
            picture = pictures.picture(number, (64, 48))
            assert client.post(f"/images/{number}", files={"file": picture}).status_code == 200
        cluster.workers[0].kill()
        data = tiny_picture()
        for first in range(0, queued, 1000):
            ledger.accept(
                [Submission.of_image(10**6 + first + number, data) for number in range(min(1000, queued))]
            )
        cluster.workers[0].start().wait_ready()
        wait_until(lambda: ledger.depth().running > 0, 60, what="bulk is worked on")

        def bulk_done() -> int:
            return queued - ledger.depth().queued - ledger.depth().running

        def done_during(request: Callable[[], httpx.Response]) -> int:
            before = bulk_done()
            assert request().status_code == 200
            return bulk_done() - before

        picture = pictures.picture(7, (64, 48))
        for number in range(4):
            added = done_during(
                lambda number=number: client.post(f"/images/{number}", files={"file": picture})
            )
            deleted = done_during(lambda number=number: client.delete(f"/images/{number}"))
            assert max(added, deleted) <= CLAIMS_BETWEEN * CLAIM_JOBS
        assert ledger.depth().queued > 0  # bulk still waits
        # An add that was accepted before the delete, and done after it, does not bring the image back.
        late = ledger.accept([Submission.of_image(5, picture)])[0]
        assert client.delete("/images/5").status_code == 200
        assert ledger.get(late.job_id).state is JobState.QUEUED
        port.close()


def test_a_sync_write_does_not_wait_for_bulk(tmp_path: Path) -> None:
    check(tmp_path, 5_000)


@pytest.mark.long
def test_a_sync_write_does_not_wait_behind_a_hundred_thousand(tmp_path: Path) -> None:
    check(tmp_path, 100_000)
