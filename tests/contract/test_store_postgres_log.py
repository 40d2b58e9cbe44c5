"""What the log says when Postgres goes away: what we make of it, and nothing of its driver."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from iqdb_core.errors import StoreUnavailable
from iqdb_core.store import open_store
from tests.fixtures.stores import live_images, put, signature

if TYPE_CHECKING:
    from tests.fixtures.databases import PostgresServer


def test_connections_cut_in_use_leave_no_traceback_in_the_log(
    postgres_url: str, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_store(f"{postgres_url}&application_name=log")) as store:

        def cut_within_a_read(*, is_over: bool) -> None:
            with store._backend.reading() as connection:
                assert store._backend.counter(connection).head_seq == 1
                postgres_server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'log'"
                )
                if not is_over:
                    store._backend.counter(connection)

        store.apply([put(7, 100)])
        cut_within_a_read(is_over=True)
        with pytest.raises(StoreUnavailable):
            cut_within_a_read(is_over=False)
        assert live_images(store) == {7: signature(100)}
    assert caplog.records == []


def test_a_transaction_that_failed_is_over_for_the_next_one(postgres_url: str) -> None:
    with closing(open_store(postgres_url)) as store:
        with pytest.raises(sa.exc.ProgrammingError), store._backend._engines.reader.connect() as connection:
            connection.exec_driver_sql("SELECT nothing")
        store.live_count()
