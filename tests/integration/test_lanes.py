"""A website and a crawler share one queue: who is waited for does not wait for the crawler."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from iqdb_core.jobs import JobLedger, QueueLimits, RedisPort, Submission
from iqdb_core.jobs.messages import CLAIM_JOBS
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.cluster import running_cluster
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

CLAIMS_BETWEEN = 3
"""One of bulk under way, one that has its turn, and one that ended before the worker was held."""

ALWAYS_WAITING = 2 * CLAIMS_BETWEEN * CLAIM_JOBS


def check(tmp_path: Path, queued: int) -> None:
    database = str(tmp_path / "iqdb.sqlite")
    settings = {"IQDB_WORKER_PROCESSES": "1", "IQDB_MAX_QUEUE_JOBS": str(2 * queued)}
    with (
        running_cluster(tmp_path, database, workers=1, **settings) as cluster,
        closing(RedisPort.connect(cluster.redis.url)) as port,
        closing(open_store(database)) as store,
        ThreadPoolExecutor(1) as thread,
    ):
        client, worker = cluster.client, cluster.workers[0]
        ledger = JobLedger(port, limits=QueueLimits(2 * queued), revision_floor=lambda: 0)
        bulk_ids = count(10**6)
        tiny = pictures.encoded(Image.effect_noise((16, 16), 64), "PNG")

        def accept_bulk(n_images: int) -> None:
            for first in range(0, n_images, 1000):
                some = islice(bulk_ids, min(1000, n_images - first))
                ledger.accept([Submission.of_image(image_id, tiny) for image_id in some])

        def bulk_before(image_id: int, request: Callable[[], httpx.Response]) -> int:
            """Return how many images of bulk are stored between a request's acceptance and its own change.

            The worker is held meanwhile: how long a request is on its way says nothing about lanes.
            """
            worker.pause()
            accept_bulk(ALWAYS_WAITING)
            before, waiting = store.head_seq(), ledger.depth().queued
            answer = thread.submit(request)
            wait_until(lambda: ledger.depth().queued > waiting, 60, what="it is accepted")
            worker.resume()
            assert answer.result().status_code == 200
            batch = store.changes_since(before, 10 * ALWAYS_WAITING)
            return batch.image_ids.tolist().index(image_id)

        picture = pictures.picture(7, (64, 48))
        for number in range(3):  # everything has been used once
            assert client.post(f"/images/{number}", files={"file": picture}).status_code == 200
        worker.pause()
        accept_bulk(queued)
        worker.resume()
        wait_until(lambda: ledger.depth().running > 0, 60, what="bulk is worked on")
        for number in range(4):
            path = f"/images/{number}"
            added = bulk_before(number, partial(client.post, path, files={"file": picture}))
            deleted = bulk_before(number, partial(client.delete, path))
            assert max(added, deleted) <= CLAIMS_BETWEEN * CLAIM_JOBS


def test_a_sync_write_does_not_wait_for_bulk(tmp_path: Path) -> None:
    check(tmp_path, 5_000)


@pytest.mark.long
def test_a_sync_write_does_not_wait_behind_a_hundred_thousand(tmp_path: Path) -> None:
    check(tmp_path, 100_000)
