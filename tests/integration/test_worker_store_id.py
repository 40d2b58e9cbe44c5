"""A worker that starts while its store is away learns to which store it belongs when that is back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import ForeignQueue
from iqdb_core.jobs import JobLedger
from iqdb_core.store import open_store, read_store_id
from tests.fixtures.noise import noise_png
from tests.fixtures.plants import Plant
from tests.fixtures.waiting import wait_until
from worker.store_id import StoreId

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.databases import PostgresServer

pytestmark = pytest.mark.waits


def test_it_is_asked_for_until_it_is_known(private_postgres: PostgresServer) -> None:
    clock = [0.0]
    url = private_postgres.url()
    store_id = StoreId(lambda: url, now=lambda: clock[0])
    private_postgres.stop()
    assert store_id() == ""
    private_postgres.start()
    with closing(open_store(url)) as store:
        assert store_id() == "", "it has been asked a moment ago"
        clock[0] += 3
        assert store_id() == store.store_id
    private_postgres.stop()
    clock[0] += 3
    assert store_id() == store.store_id, "it stays what it is"


def test_it_is_read_where_nothing_is_made(store_url: str) -> None:
    store_id = StoreId(lambda: store_url)
    assert store_id() == ""
    with closing(open_store(store_url)) as store:
        assert read_store_id(store_url) == store.store_id
        assert store_id() == "", "it has been asked a moment ago"


def test_a_new_store_takes_over_a_queue_whose_worker_came_before_it(
    tmp_path: Path, private_postgres: PostgresServer
) -> None:
    with private_postgres.fresh_database() as url:
        plant = Plant(tmp_path, url)
        try:
            JobLedger(plant.port, revision_floor=lambda: 0, store_id=lambda: "replaced").seed()
            new = JobLedger(plant.port, revision_floor=lambda: 0, store_id=lambda: plant.store.store_id)
            private_postgres.stop()
            worker = plant.start_worker().wait_ready()
            assert "starting without the database" in worker.text()
            wait_until(lambda: len(new.workers()) == 1, 30)
            with pytest.raises(ForeignQueue):
                new.seed()
            private_postgres.start()
            wait_until(lambda: "this worker does nothing" in worker.text(), 60)
            new.seed()
            job_ids = plant.submit([noise_png(1)])
            plant.wait_final(job_ids)
            assert plant.states(job_ids) == ["done"]
            wait_until(lambda: len(new.workers()) == 1, 30)
        finally:
            plant.close()
