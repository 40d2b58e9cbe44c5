"""What Postgres, a database or a role may be set to without harm to the store, and what is refused."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from iqdb_core.errors import StoreInvalid, StoreRefused, StoreUnavailable
from iqdb_core.store import open_store
from iqdb_core.store.databases import postgres
from tests.fixtures.stores import IqdbFile, delete, live_images, put, signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fixtures.databases import PostgresServer

SOURCE = "日本/é.jpg"


def set_of_database(url: str, setting: str) -> None:
    """Change a setting that the sessions of everybody begin with."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}".encode())


def keeps_what_it_is_given(url: str) -> bool:
    """Tell whether an image with a source of many letters comes back as it was."""
    with closing(open_store(url)) as store:
        store.apply([replace(put(7, 100), source=SOURCE)])
        assert live_images(store) == {7: signature(100)}
        return store.sources_of([7]) == {7: SOURCE}


class TestEncodings:
    @pytest.fixture
    def encoded(self, postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
        """The address of a database with an encoding."""
        name = f"in_{request.param.lower()}"
        postgres_server.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'"
        )
        yield postgres_server.url(name)
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "SJIS"])
    def test_what_a_database_has_its_clients_use_does_not_matter(
        self, postgres_url: str, encoding: str
    ) -> None:
        set_of_database(postgres_url, f"client_encoding = '{encoding}'")
        assert keeps_what_it_is_given(postgres_url)

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_nor_does_what_the_environment_says(
        self, postgres_url: str, encoding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        assert keeps_what_it_is_given(postgres_url)

    @pytest.mark.parametrize("parameter", ["client_encoding=LATIN1", "options=-c%20client_encoding%3DLATIN1"])
    def test_nor_does_what_the_address_says(self, postgres_url: str, parameter: str) -> None:
        assert keeps_what_it_is_given(f"{postgres_url}&{parameter}")

    @pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
    def test_a_database_that_keeps_any_bytes_is_as_good(self, encoded: str) -> None:
        assert keeps_what_it_is_given(encoded)

    @pytest.mark.parametrize("encoded", ["LATIN1", "EUC_JP"], indirect=True)
    def test_a_database_that_lacks_letters_is_refused_before_anything_is_made(self, encoded: str) -> None:
        with pytest.raises(StoreInvalid, match="ENCODING 'UTF8'") as caught:
            open_store(encoded)
        assert not caught.value.retryable
        with psycopg.connect(encoded) as connection:
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            assert tables.fetchone() == (0,)


def test_a_limit_for_whole_transactions_does_not_hold_for_ours(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        if connection.info.server_version < 170_000:
            pytest.skip("it came with Postgres 17")
    set_of_database(postgres_url, "transaction_timeout = '50ms'")
    with closing(open_store(postgres_url)) as store, store._backend.writing() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.2)")
        assert connection.exec_driver_sql("SHOW transaction_timeout").scalar_one() == "0"


def test_a_database_that_takes_null_in_arrays_for_a_text_is_as_good(postgres_url: str) -> None:
    set_of_database(postgres_url, "array_nulls = off")
    with closing(open_store(postgres_url)) as store:
        store.apply([put(7, 100)])
        store.apply([delete(7, 101)])
        assert live_images(store) == {}


def test_a_database_that_rounds_numbers_gives_all_of_their_digits(postgres_url: str, tmp_path: Path) -> None:
    set_of_database(postgres_url, "extra_float_digits = 0")
    images = {k: signature(k) for k in range(20)}
    with closing(open_store(postgres_url)) as store:
        store.apply([put(k, 1, k) for k in images])
        assert {image.image_id: image.signature for image in store.export()} == images
        store.backup(tmp_path / "backup.sqlite")
    assert IqdbFile(tmp_path / "backup.sqlite").live() == images


def test_options_of_the_address_count_before_ours(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA aside")
    options = "-c%20search_path%3Daside%20-c%20statement_timeout%3D21s"
    opened = open_store(f"{postgres_url}&options={options}")
    with closing(opened) as store, store._backend.writing() as connection:
        shown = connection.exec_driver_sql(
            "SELECT current_setting('statement_timeout'), current_setting('jit'), schemaname"
            " FROM pg_tables WHERE tablename = 'iqdb_store'"
        )
        assert shown.all() == [("21s", "off", "aside")]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("-c%20Statement_Timeout%3D5s", ("5s", "10s")),
        ("-cstatement_timeout%3D5s", ("5s", "10s")),
        ("--statement-timeout%3D5s", ("5s", "10s")),
        ("-cdeadlock_timeout%3D2s", ("1min", "10s")),
        ("-c%20application_name%3Dno%5C%20lock_timeout%3D5s", ("1min", "10s")),
    ],
)
def test_an_option_is_one_by_its_name_however_it_is_spelled(
    postgres_url: str, options: str, shown: tuple[str, str]
) -> None:
    opened = open_store(f"{postgres_url}&options={options}")
    with closing(opened) as store, store._backend.reading() as connection:
        limits = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
        assert connection.exec_driver_sql(limits).one() == shown


def test_the_options_of_the_environment_do_not(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=off -c default_transaction_read_only=on")
    assert keeps_what_it_is_given(postgres_url)


def test_the_first_of_several_servers_that_answers_is_used(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    address, _, folder = postgres_url.partition("?host=")
    assert folder == str(postgres_server.home)
    for servers in (f"host={folder}/nowhere&host={folder}", f"host={folder}/nowhere,{folder}"):
        assert keeps_what_it_is_given(f"{address}?{servers}")


NO_PASSWORD = "the password is wrong, or there is none"
NO_DATABASE = "there is no database of that name"
NO_ENTRY = "the user may not connect"


def test_which_mistake_is_in_the_address_is_told_without_the_password(
    private_postgres: PostgresServer,
) -> None:
    private_postgres.execute("CREATE ROLE known LOGIN PASSWORD 'secret'")
    private_postgres.execute("CREATE ROLE kept_out LOGIN")
    rules = ("kept_out reject", "known scram-sha-256", "all trust")
    (private_postgres.data / "pg_hba.conf").write_text("".join(f"local all {rule}\n" for rule in rules))
    private_postgres.restart()
    for who, database, mistake in (
        ("known:wrong", "postgres", NO_PASSWORD),
        ("known", "postgres", NO_PASSWORD),
        ("known:secret", "nobody_made_me", NO_DATABASE),
        ("nobody_knows_me", "postgres", NO_ENTRY),
        ("kept_out", "postgres", NO_ENTRY),
    ):
        with pytest.raises(StoreRefused) as caught:
            open_store(f"postgresql://{who}@/{database}?host={private_postgres.home}")
        assert (caught.value.mistake, caught.value.retryable) == (mistake, True)
        assert "wrong" not in str(caught.value)
        assert "secret" not in str(caught.value)
    private_postgres.stop()
    with pytest.raises(StoreUnavailable) as away:
        open_store(private_postgres.url())
    assert not isinstance(away.value, StoreRefused)


def test_the_counter_row_is_found_by_its_key(postgres_url: str) -> None:
    """After a long snapshot its table has many pages, which nothing but VACUUM FULL makes fewer."""
    statements = (postgres._LOCK_COUNTER, postgres._COUNTER, postgres._SET_COUNTER, postgres._MARKS)
    with closing(open_store(postgres_url)) as store, store._backend.writing() as connection:
        for statement in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement.replace('%b', '1')}").scalars().all()
            assert not [line for line in plan if "Seq Scan on iqdb_store" in line], plan
