"""The thread that checkpoints the WAL of a database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iqdb_core.errors import StoreUnavailable
from iqdb_core.store.databases.sqlite_checkpointer import Checkpointer
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    import pytest


def test_a_reason_is_logged_once_however_often_it_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    left = ["the disk is full"] * 3 + ["the file is away"] * 3

    def checkpoint() -> bool:
        if left:
            raise StoreUnavailable(left.pop(0))
        return True

    checkpointer = Checkpointer(checkpoint, idle_s=0.001)
    with caplog.at_level(logging.INFO):
        checkpointer.note_write()
        wait_until(lambda: not left, 30)
        checkpointer.close()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "the disk is full",
        "the file is away",
    ]
