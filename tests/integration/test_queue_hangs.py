"""A Redis that is frozen: who needs it is told so in time, and who does not hardly notices."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from api.ingestion.ledger_threads import LIMIT_S
from api.ingestion.picture import SPOOL_BYTES
from tests.fixtures.cluster import running_cluster
from tests.fixtures.noise import noise_png

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.waits
LARGE = noise_png(1, 800)
"""Larger than what is kept in memory: threads write it to disk."""
POLLERS = 64
"""More than there are threads."""


def test_queries_go_on_while_the_queue_hangs(tmp_path: Path) -> None:
    assert len(LARGE) > SPOOL_BYTES
    with (
        running_cluster(tmp_path, str(tmp_path / "iqdb.sqlite"), workers=0) as cluster,
        httpx.Client(
            base_url=cluster.apis[0].url, limits=httpx.Limits(max_connections=None), timeout=90
        ) as client,
        ThreadPoolExecutor(POLLERS) as threads,
    ):
        assert client.post("/query", files={"file": LARGE}).status_code == 200
        os.kill(cluster.redis.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            polls = [threads.submit(client.get, f"/jobs/{number}") for number in range(POLLERS)]
            for _ in range(5):
                assert client.post("/query", files={"file": LARGE}).status_code == 200
            asked_s = time.monotonic() - began
            assert {poll.result().status_code for poll in polls} == {503}
            polled_s = time.monotonic() - began
        finally:
            os.kill(cluster.redis.pid, signal.SIGCONT)
        assert asked_s < LIMIT_S, "they waited for the polls"
        assert polled_s < 5 * LIMIT_S, "they waited for each other"
        assert client.get("/jobs/1").status_code == 404
