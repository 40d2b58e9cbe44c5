"""A worker whose database was upgraded by a newer version: what it goes on with, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid
from tests.fixtures.noise import noise_png
from tests.fixtures.plants import Plant
from tests.fixtures.stores import IqdbFile
from tests.fixtures.waiting import wait_until
from worker.tasks import Complaint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAYS = "this worker does nothing: "


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path, f"sqlite:///{tmp_path}/images.sqlite")
    plant.environment["IQDB_WORKER_PROCESSES"] = "1"
    plant.environment["IQDB_LOG_LEVEL"] = "warning"
    yield plant
    plant.close()


@pytest.mark.waits
def test_a_process_that_cannot_open_the_database_says_so(plant: Plant, tmp_path: Path) -> None:
    worker = plant.start_worker().wait_ready()
    plant.wait_final(plant.submit([noise_png(1)]))
    IqdbFile(tmp_path / "images.sqlite").run("UPDATE iqdb_schema_version SET version_num = '9999'")
    plant.wait_final(plant.submit([noise_png(2)]))  # the process that has it open goes on
    assert SAYS not in worker.text()
    first = worker.kill_child()
    wait_until(lambda: worker.children() not in ([], [first]), 30, what="another process")
    job_ids = plant.submit([noise_png(3)])
    wait_until(lambda: SAYS in worker.text(), 30, what="the worker says what is wrong")
    told = next(line for line in worker.text().splitlines() if SAYS in line)
    assert "has schema 9999, which is newer than this program knows" in told
    assert "update the program" in told
    assert plant.states(job_ids) == ["queued"]


def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seconds = [100.0]
    complaint = Complaint(now=lambda: seconds[0])
    for seconds[0], told in ((101.0, 1), (102.0, 1), (160.0, 1), (162.0, 2)):
        complaint.tell(StoreInvalid("newer"))
        lines = [(one.levelname, one.getMessage()) for one in caplog.records]
        assert lines == [("ERROR", f"{SAYS}newer")] * told
