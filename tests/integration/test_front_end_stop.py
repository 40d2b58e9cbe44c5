"""A front end that is told to end answers what it has accepted with its job, however long that would take."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from api.ingestion.waits import LAST_S
from api.roles.process import GRACE_S
from tests.fixtures import pictures
from tests.fixtures.cluster import running_cluster
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.waits

SMALL = [pictures.picture(seed, (64, 48)) for seed in range(3)]


def test_writes_that_wait_at_a_signal_are_answered_with_their_jobs(tmp_path: Path) -> None:
    """The worker is frozen: without the signal they would wait longer than a server takes to end."""
    assert LAST_S < GRACE_S / 2
    with (
        running_cluster(tmp_path, str(tmp_path / "iqdb.sqlite"), apis=2, IQDB_ADD_TIMEOUT_S="300") as cluster,
        ThreadPoolExecutor(4) as threads,
    ):
        front, other = cluster.apis
        frozen = [cluster.workers[0].pid, *cluster.workers[0].children()]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        files = [(str(number), ("x", SMALL[number])) for number in (1, 2)]
        writes = [
            threads.submit(front.client.post, "/images/5", files={"file": SMALL[0]}),
            threads.submit(front.client.post, "/images", files=files),
            threads.submit(front.client.delete, "/images/6"),
        ]
        wait_until(lambda: other.client.get("/status").json()["queue"]["queued"] == 4, 60)
        assert front.terminate() == 0
        added, batch, deleted = (write.result() for write in writes)
        for answer in (added, batch, deleted):
            assert answer.status_code == 202, answer.text
        assert "Traceback" not in front.errors()
        jobs = [added.json()["job_id"], deleted.json()["job_id"]]
        jobs += [image["job_id"] for image in batch.json()["images"]]
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        for job_id in jobs:
            wait_until(
                lambda job_id=job_id: other.client.get(f"/jobs/{job_id}").json()["state"] == "done", 60
            )
