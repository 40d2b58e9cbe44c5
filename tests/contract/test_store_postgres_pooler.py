"""A pooler may lead every transaction to another session, and from one to the next to another server."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from iqdb_core.errors import StoreInvalid, StoreRefused
from iqdb_core.store import StoreTimeouts, open_store
from tests.fixtures.pooler import TransactionPooler
from tests.fixtures.stores import (
    live_images,
    mark_at,
    put,
    signature,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqdb_core.store import SignatureStore
    from tests.fixtures.databases import PostgresServer

TIMEOUTS: Final = StoreTimeouts(lock_s=7, statement_s=33)
SETTINGS: Final = {
    "array_nulls": "on",
    "enable_seqscan": "off",
    "idle_in_transaction_session_timeout": "33s",
    "jit": "off",
    "lock_timeout": "7s",
    "statement_timeout": "33s",
    "synchronous_commit": "on",
}
SHOW: Final = f"SELECT pg_backend_pid(), {', '.join(f'current_setting({name!r})' for name in SETTINGS)}"


@pytest.fixture
def database(postgres_url: str) -> str:
    """The name of an empty database."""
    with psycopg.connect(postgres_url) as connection:
        return connection.info.dbname


@pytest.fixture
def pooler(postgres_server: PostgresServer, database: str) -> Iterator[TransactionPooler]:
    with TransactionPooler(postgres_server.home, database) as running:
        yield running


@pytest.fixture
def pooled(pooler: TransactionPooler) -> Iterator[SignatureStore]:
    with closing(open_store(pooler.url, timeouts=TIMEOUTS)) as store:
        yield store


def test_every_transaction_has_our_settings(
    pooled: SignatureStore, postgres_server: PostgresServer, database: str, pooler: TransactionPooler
) -> None:
    for name, value in (("synchronous_commit", "off"), ("array_nulls", "off"), ("jit", "on")):
        postgres_server.execute(f"ALTER DATABASE {database} SET {name} = {value}")
    pooler.lead_to(database)  # in new sessions
    begin = (pooled._backend.reading, pooled._backend.writing)
    sessions = set()
    for number in range(9):
        with begin[number % 2]() as connection:
            session, *values = connection.exec_driver_sql(SHOW).one()
        sessions.add(session)
        assert dict(zip(SETTINGS, values, strict=True)) == SETTINGS
    assert len(sessions) == 3


def test_who_shares_the_sessions_keeps_the_own_settings(
    pooled: SignatureStore, pooler: TransactionPooler
) -> None:
    pooled.apply([put(7, 100)])
    with psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as other:
        for _ in range(6):
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_statements_are_not_looked_for_where_another_client_prepared_them(
    pooled: SignatureStore, pooler: TransactionPooler
) -> None:
    with closing(open_store(pooler.url)) as other:
        for number in range(20):
            store, neighbour = (pooled, other)[:: (-1) ** number]
            assert not store.apply([put(number, 100 + number)])[0].is_stale
            assert neighbour.get(number) == signature(100 + number)
        assert live_images(other) == {number: signature(100 + number) for number in range(20)}


def test_a_history_that_parts_while_clients_stay_connected_is_marked(
    pooled: SignatureStore, pooler: TransactionPooler, postgres_server: PostgresServer, database: str
) -> None:
    for number in range(4):
        pooled.apply([put(number, 100 + number)])
    before = mark_at(pooled, 4)
    assert before.seq == 1, "another session of the same server is no reason for a mark"
    pooler.lead_to("postgres")
    with postgres_server.fresh_database(database) as copied:
        pooler.lead_to(database)
        lost = pooled.apply([put(7, 200)])
        with psycopg.connect(copied) as connection:
            pooler.lead_to(connection.info.dbname)
        assert pooled.apply([put(8, 300)])[0].seq == lost[0].seq == 5
        mark = mark_at(pooled, 5)
        assert (mark.seq, mark != before) == (5, True)
        pooled.apply([put(9, 400)])
        assert mark_at(pooled, 6) == mark
        pooler.lead_to("postgres")


def test_what_the_pooler_cannot_reach_may_come_back(
    pooled: SignatureStore, pooler: TransactionPooler, database: str
) -> None:
    pooler.lead_to("nobody_made_me")
    with pytest.raises(StoreRefused, match="does not exist") as caught:
        pooled.live_count()
    assert caught.value.mistake == "there is no database of that name"
    pooler.lead_to(database)
    pooled.live_count()


def test_options_that_may_not_arrive_are_refused(postgres_server: PostgresServer, database: str) -> None:
    class Careless(TransactionPooler):
        """One that drops them, as PgBouncer does with `ignore_startup_parameters`."""

        accepted = TransactionPooler.accepted | {"options"}

    with Careless(postgres_server.home, database) as pooler:
        with pytest.raises(StoreInvalid, match="ALTER ROLE"):
            open_store(f"{pooler.url}&options=-csearch_path%3Dimages")
        open_store(f"{pooler.url}&options=endpoint%3Dof-the-pooler").close()
