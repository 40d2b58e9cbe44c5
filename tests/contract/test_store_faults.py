"""What was applied stays, whatever is killed; what is away comes back."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from iqdb_core.errors import StoreInvalid, StoreUnavailable, UnknownImage
from iqdb_core.store import StoreTimeouts, open_store
from tests.fixtures import programs
from tests.fixtures.stores import all_changes, delete, live_images, put, signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iqdb_core.store import SignatureStore
    from tests.fixtures.databases import PostgresServer

pytestmark = pytest.mark.waits
WRITER = """
    import sys
    from iqdb_core.store import open_store
    from tests.fixtures.stores import delete, put

    store = open_store(sys.argv[1])
    for turn in range(10**9):
        signature = turn % 50
        puts = [put(turn % 100, turn + 1, signature), put(1000 + turn, 1, signature)]
        store.apply([*puts, delete((turn + 50) % 100, turn + 1)])
        print(turn, flush=True)
"""
SHORT = StoreTimeouts(connect_s=2, lock_s=1, statement_s=1)


def test_what_was_acknowledged_survives_sigkill(store_url: str) -> None:
    rng = random.Random(3)
    open_store(store_url).close()
    last = -1
    for _ in range(3):
        writer = programs.start(WRITER, store_url)
        assert writer.stdout is not None
        for _ in range(rng.randrange(20, 60)):
            line = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        last = max(last, int(rest[-1] if rest and rest[-1].isdigit() else line))

        store = open_store(store_url)
        live = live_images(store)
        assert store.live_count() == len(live)
        for turn in range(last + 1):
            assert live[1000 + turn] == signature(turn % 50)
        seqs = [seq for seq, _, _ in all_changes(store)]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] == store.head_seq()
        # A transaction is there whole or not at all: the turn's two images appear together.
        newest = max(live) - 1000
        assert newest in (last, last + 1)
        assert newest % 100 in live
        store.close()


def fails_or_not(use: Callable[[], object]) -> bool:
    try:
        use()
    except StoreUnavailable:
        return True
    return False


def opened_with_short_limits(url: str) -> SignatureStore:
    """Open a store; beside other load an answer may come later than the limits allow."""
    opened: list[SignatureStore] = []
    wait_until(lambda: not fails_or_not(lambda: opened.append(open_store(url, timeouts=SHORT))), 60)
    return opened[0]


class TestPostgresAway:
    @pytest.fixture
    def server(self, private_postgres: PostgresServer) -> PostgresServer:
        return private_postgres

    @pytest.fixture
    def url(self, server: PostgresServer) -> str:
        server.execute("CREATE DATABASE store")
        return server.url("store")

    @pytest.mark.parametrize("how", ["stop", "kill"])
    def test_a_store_recovers_by_itself(self, server: PostgresServer, url: str, how: str) -> None:
        store = open_store(url)
        store.apply([put(k, 10 + k) for k in range(100)])
        getattr(server, how)()
        for use in (lambda: store.apply([put(7, 1000)]), lambda: store.get(7), store.head_seq):
            with pytest.raises(StoreUnavailable):
                use()
        with pytest.raises(StoreUnavailable):
            open_store(url)
        server.start()
        assert live_images(store) == {k: signature(10 + k) for k in range(100)}
        assert store.apply([put(7, 1000)])[0].seq == 101
        store.close()

    def test_connections_cut_while_at_rest_are_not_noticed(self, server: PostgresServer, url: str) -> None:
        store = open_store(url)
        store.apply([put(7, 100)])
        store.get(7)
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iqdb'"
        )
        assert store.get(7) == signature(100)
        assert store.apply([put(7, 101)])[0].seq == 2
        store.close()

    def test_a_connection_cut_within_a_transaction_undoes_it(self, server: PostgresServer, url: str) -> None:
        store = open_store(url)

        def cut_before_the_commit() -> None:
            with store._backend.writing() as connection:
                store._backend.put_feed(connection, [])
                server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iqdb'"
                )

        with pytest.raises(StoreUnavailable):
            cut_before_the_commit()
        assert store.head_seq() == 0
        store.apply([put(7, 101)])
        store.close()

    def test_a_server_that_falls_silent_is_given_up(self, server: PostgresServer, url: str) -> None:
        with closing(open_store(url)) as patient:
            patient.apply([put(7, 100)])
        store = opened_with_short_limits(url)
        server.pause()
        try:
            start = time.monotonic()
            for use in (lambda: store.apply([put(7, 1000)]), lambda: store.changes_since(0, 1)):
                with pytest.raises(StoreUnavailable):
                    use()
            assert time.monotonic() - start < 60
        finally:
            server.resume()
        wait_until(lambda: not fails_or_not(lambda: store.apply([put(8, 1001)])), 60)
        assert store.get(8) == signature(1001)
        store.close()

    @pytest.mark.parametrize("what", ["writing", "repairing"])
    def test_a_writer_frozen_within_its_transaction_does_not_block_the_others(
        self, url: str, what: str
    ) -> None:
        """As when the machine of whoever repairs the store is suspended."""
        other, frozen = open_store(url), opened_with_short_limits(url)

        def freeze() -> None:
            with getattr(frozen._backend, what)():
                # The server ends the idle transaction after a second; only then can the other one write.
                assert other.apply([put(7, 100)])[0].seq == 1

        with pytest.raises(StoreUnavailable):
            freeze()
        assert frozen.get(7) == signature(100)
        frozen.close()
        other.close()

    def test_writers_go_on_after_a_crash_of_the_server(self, server: PostgresServer, url: str) -> None:
        open_store(url).close()
        store = opened_with_short_limits(url)
        acknowledged: set[int] = set()
        stop = threading.Event()

        def write(number: int) -> None:
            turn = 0
            while not stop.is_set():
                image_id = number * 10**6 + turn
                if not fails_or_not(lambda image_id=image_id: store.apply([put(image_id, 1, image_id % 50)])):
                    acknowledged.add(image_id)
                    turn += 1

        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(write, number) for number in range(3)]
            for _ in range(2):
                before = len(acknowledged)
                wait_until(lambda before=before: len(acknowledged) > before + 50, 60)
                server.kill()
                server.start()
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 50, 60)
            stop.set()
            for future in running:
                future.result()
        live = live_images(store)
        assert acknowledged <= live.keys()
        assert (
            len(live) <= len(acknowledged) + 6
        )  # at most one per writer and crash was committed but not heard of
        assert store.live_count() == len(live)
        store.close()


class TestPostgresRefusals:
    def test_another_programs_images(self, postgres_server: PostgresServer, postgres_url: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE images (id BIGINT PRIMARY KEY, url TEXT)")
        with pytest.raises(StoreInvalid, match="images that is not IQDB's"):
            open_store(postgres_url)
        assert postgres_server.pid > 0

    def test_a_database_that_is_not_there(self, postgres_server: PostgresServer) -> None:
        with pytest.raises(StoreUnavailable, match="does not exist"):
            open_store(postgres_server.url("nobody_made_me"))

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable):
            open_store(f"postgresql://someone:secret@/iqdb?host={tmp_path}", timeouts=SHORT)

    @pytest.mark.parametrize("greeting", ["", "N"], ids=["says nothing", "refuses TLS, then nothing"])
    def test_a_peer_that_never_answers(self, greeting: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            peers: list[socket.socket] = []

            def accept() -> None:
                for _ in range(8):
                    try:
                        peer, _ = listener.accept()
                    except OSError:
                        return
                    peers.append(peer)
                    peer.sendall(greeting.encode())

            accepting = threading.Thread(target=accept, daemon=True)
            accepting.start()
            start = time.monotonic()
            with pytest.raises(StoreUnavailable):
                open_store(f"postgresql://someone@127.0.0.1:{port}/iqdb", timeouts=SHORT)
            assert time.monotonic() - start < 60, (
                "the limit is 2 s per address, and a slow machine is no reason"
            )
            assert peers, "it was reached at all"
            for peer in peers:
                peer.close()

    def test_no_password_in_any_message(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            open_store(f"postgresql://someone:secret@/iqdb?host={tmp_path}", timeouts=SHORT)
        assert "secret" not in str(caught.value)

    def test_a_newer_schema_is_refused_by_name(self, postgres_url: str) -> None:
        open_store(postgres_url).close()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("UPDATE iqdb_schema_version SET version_num = '0099'")
        with pytest.raises(StoreInvalid, match="schema 0099, which is newer"):
            open_store(postgres_url)

    def test_tables_of_other_programs_beside_ours_are_no_obstacle(self, postgres_url: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE bookmarks (url TEXT)")
        store = open_store(postgres_url)
        store.apply([put(7, 100)])
        store.close()


class TestPostgresRows:
    @pytest.mark.parametrize(
        "damage",
        [
            "sig = substr(sig, 2)",
            "sig = decode(repeat('00', 240), 'hex')",
            "sig = decode(repeat('0040', 120), 'hex')",
            "avglf2 = 'NaN'",
            "avglf3 = '-Infinity'",
        ],
    )
    def test_a_damaged_row_reads_as_absent(
        self, postgres_url: str, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = open_store(postgres_url)
        store.apply([put(k, 10 + k) for k in range(5)])
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"UPDATE images SET {damage} WHERE post_id = 2")  # noqa: S608 - from the list
        assert live_images(store) == {k: signature(10 + k) for k in (0, 1, 3, 4)}
        assert [seq for seq, _, _ in all_changes(store)] == [1, 2, 3, 4, 5]
        assert any(getattr(record, "post_id", None) == 2 for record in caplog.records)
        with pytest.raises(UnknownImage):
            store.get(2)
        store.close()

    def test_iqdbs_table_loaded_by_hand_is_taken_over(self, postgres_url: str) -> None:
        opened = open_store(postgres_url)
        opened.apply([put(k, 10 + k) for k in range(5)] + [delete(1, 100)])
        opened.close()
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            ours = ("feed", "store", "copy", "sources", "lineage", "schema_version")
            for table in (f"iqdb_{name}" for name in ours):
                connection.execute(f"DROP TABLE {table}")
            # One with an impossible position, which stays where it is and reads as absent.
            connection.execute(
                "INSERT INTO images VALUES (90, 90, 0.5, 0, 0, decode(repeat('0040', 120), 'hex'))"
            )
        store = open_store(postgres_url)
        assert [image_id for _, image_id, _ in all_changes(store)] == [0, 2, 3, 4, 90]
        assert live_images(store) == {k: signature(10 + k) for k in (0, 2, 3, 4)}
        assert (store.live_count(), store.max_revision()) == (4, 0)
        store.close()

    def test_the_session_says_who_it_is_and_cannot_wait_for_ever(self, postgres_url: str) -> None:
        store: SignatureStore = open_store(postgres_url + "&application_name=iqdb-worker")
        with store._backend.writing() as connection:
            shown = {
                name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
                for name in ("application_name", "lock_timeout", "statement_timeout", "synchronous_commit")
            }
        assert shown == {
            "application_name": "iqdb-worker",
            "lock_timeout": "10s",
            "statement_timeout": "1min",
            "synchronous_commit": "on",
        }
        store.close()

    def test_a_server_set_to_lose_commits_is_overruled(self, postgres_url: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        store = open_store(postgres_url)
        with store._backend.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        store.close()
