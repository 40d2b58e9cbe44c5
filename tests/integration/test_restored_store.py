"""A store that was put back from a backup: servers answer from it, whatever its head says."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from iqdb_core import codec
from iqdb_core.store import open_store
from tests.fixtures.ports import free_port
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.stores import IqdbFile, live_images, put, signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.waits

OURS: Final = ("images", "iqdb_feed", "iqdb_store", "iqdb_sources", "iqdb_lineage")


def write(url: str, first_id: int, count: int) -> None:
    with closing(open_store(url)) as store:
        for image_id in range(first_id, first_id + count):
            store.apply([put(image_id, image_id)])


def content(url: str) -> set[int]:
    with closing(open_store(url)) as store:
        return set(live_images(store))


def add(client: httpx.Client, image_ids: Iterable[int]) -> None:
    for image_id in image_ids:
        answer = client.post(f"/images/{image_id}", data={"hash": codec.to_hash(signature(image_id))})
        assert answer.status_code == 200


@contextmanager
def log_kept(database: Path) -> Iterator[None]:
    """Read an older state, which keeps the log from being emptied."""
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM images").fetchone()
        yield


def found(client: httpx.Client) -> set[int]:
    """Return the ids that a front end finds."""
    answer = client.post("/query", data={"hash": codec.to_hash(signature(1)), "limit": 1000})
    assert answer.status_code == 200, answer.text
    return {match["post_id"] for match in answer.json()}


def test_a_backup_put_back_or_a_log_removed_is_noticed_at_the_start(tmp_path: Path) -> None:
    database, backup = tmp_path / "iqdb.sqlite", tmp_path / "backup.sqlite"
    write(str(database), 1, 10)
    shutil.copy(database, backup)
    write(str(database), 101, 5)
    with embedded_server(database) as server:
        assert found(server.client) == {*range(1, 11), *range(101, 106)}
        assert server.terminate() == 0
    shutil.copy(backup, database)
    write(str(database), 201, 7)
    with embedded_server(database) as server:
        status = server.client.get("/status").json()
        assert (status["images"], status["applied_seq"], status["head_seq"]) == (17, 17, 17)
        assert "put back to another state" in status["restarted"]
        assert "put back to another state" in server.errors()
        assert found(server.client) == content(str(database)) == {*range(1, 11), *range(201, 208)}
        assert server.terminate() == 0
    with embedded_server(database) as server:
        assert "restarted" not in server.client.get("/status").json()
        assert found(server.client) == {*range(1, 11), *range(201, 208)}
        with log_kept(database):
            add(server.client, [301])
            server.kill()
            shutil.copy(database, backup)
    for log in tmp_path.glob("iqdb.sqlite-*"):
        log.unlink()
    backup.rename(database)
    with embedded_server(database) as server:
        assert (
            "the store ends at seq 17, but the index held 18"
            in server.client.get("/status").json()["restarted"]
        )
        assert "unless that was meant, changes are lost" in server.errors()


def test_a_file_put_in_place_of_the_one_being_served(tmp_path: Path) -> None:
    database, backup = tmp_path / "iqdb.sqlite", tmp_path / "backup.sqlite"
    write(str(database), 1, 10)
    shutil.copy(database, backup)
    write(str(backup), 201, 7)
    with embedded_server(database) as server:
        add(server.client, range(101, 106))
        for log in tmp_path.glob("iqdb.sqlite-*"):
            log.unlink()
        backup.rename(database)
        wait_until(lambda: "restarted" in server.client.get("/status").json(), 60)
        wait_until(lambda: server.client.get("/status").json()["applied_seq"] == 17, 60)
        assert found(server.client) == {*range(1, 11), *range(201, 208)}
        hashed = {"hash": codec.to_hash(signature(9))}
        assert server.client.post("/images/301", data=hashed).status_code == 200
        assert 301 in found(server.client)


@pytest.mark.parametrize("images_before", [0, 10])
def test_another_store_put_in_place_is_named_and_its_index_kept(tmp_path: Path, images_before: int) -> None:
    database, new = tmp_path / "iqdb.sqlite", tmp_path / "new.sqlite"
    write(str(new), 201, 7)
    write(str(database), 1, images_before)
    with closing(open_store(str(database))) as old, closing(open_store(str(new))) as other:
        before, name = old.store_id, other.store_id
    with embedded_server(database) as server:
        assert server.client.get("/status").json()["store_id"] == before
        new.rename(database)
        wait_until(lambda: server.client.get("/status").json()["images"] == 7, 60)
        assert server.client.get("/status").json()["store_id"] == name
        assert server.terminate() == 0
    with embedded_server(database) as server:
        assert found(server.client) == set(range(201, 208))
        assert "refused" not in server.client.get("/status").json()["checkpoint"]
        assert "it belongs to the store" not in server.errors()


def edited_backup(database: Path, new: Path) -> None:
    """Make a copy in which other programs have deleted some images."""
    shutil.copy(database, new)
    for image_id in (2, 3, 4):
        IqdbFile(new).remove(image_id)


def file_of_iqdb(_database: Path, new: Path) -> None:
    file = IqdbFile(new).create()
    for image_id in (1, *range(5, 11)):
        file.add(image_id, signature(image_id))


@pytest.mark.parametrize("make", [edited_backup, file_of_iqdb])
def test_what_is_not_in_a_file_put_in_place_is_not_found_any_more(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """Whoever wrote it: the server takes in what it finds there, as at its start."""
    database, new = tmp_path / "iqdb.sqlite", tmp_path / "new.sqlite"
    write(str(database), 1, 10)
    make(database, new)
    with embedded_server(database) as server:
        assert found(server.client) == set(range(1, 11))
        new.rename(database)
        wait_until(lambda: server.client.get("/images/3").status_code == 404, 60)
        wait_until(lambda: server.client.get("/status").json()["images"] == 7, 60)
        status = server.client.get("/status").json()
        assert (status["follower"], status["lag_seq"]) == ("following", 0)
        assert found(server.client) == {1, *range(5, 11)}
        add(server.client, [301])
        assert found(server.client) == {1, 301, *range(5, 11)}


def test_a_file_put_over_one_whose_log_is_not_empty_is_not_served(tmp_path: Path) -> None:
    database, backup = tmp_path / "iqdb.sqlite", tmp_path / "backup.sqlite"
    write(str(database), 1, 10)
    shutil.copy(database, backup)
    content = backup.read_bytes()
    with embedded_server(database) as server, log_kept(database):
        add(server.client, range(101, 106))
        backup.rename(database)
        remedy = "stop the server, move iqdb.sqlite-wal and iqdb.sqlite-shm to their file or remove them"
        wait_until(lambda: remedy in server.client.get("/status").json().get("store_error", ""), 60)
        refused = server.client.post("/images/301", data={"hash": codec.to_hash(signature(9))})
        assert refused.status_code == 503
        assert found(server.client) == {*range(1, 11), *range(101, 106)}
        assert server.terminate() == 0
        assert remedy in server.errors()
    assert database.read_bytes() == content
    for log in tmp_path.glob("iqdb.sqlite-*"):
        log.unlink()
    with embedded_server(database) as server:
        assert found(server.client) == set(range(1, 11))


def test_a_server_that_stops_after_its_file_was_moved_away_loses_nothing(tmp_path: Path) -> None:
    database, away = tmp_path / "iqdb.sqlite", tmp_path / "away.sqlite"
    write(str(database), 1, 10)
    with embedded_server(database) as server, log_kept(database):
        add(server.client, range(101, 106))
        database.rename(away)
        assert server.terminate() == 0
    assert not database.exists()
    away.rename(database)
    assert content(str(database)) == {*range(1, 11), *range(101, 106)}


class PostgresBackup:
    """What a backup of a database holds, and its way back."""

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url) as connection:
            self._rows: dict[str, list[Any]] = {
                table: connection.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[call-overload] # noqa: S608
                for table in OURS
            }

    def put_back(self) -> None:
        """Replace the contents, as a restore does, and cut everybody's connection."""
        with psycopg.connect(self._url) as connection:
            for table, rows in self._rows.items():
                connection.execute(f"TRUNCATE {table}")  # type: ignore[call-overload]
                for row in rows:
                    marks = ", ".join(["%s"] * len(row))
                    connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # type: ignore[call-overload] # noqa: S608
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def test_a_query_node_that_runs_while_the_store_is_put_back(postgres_url: str, tmp_path: Path) -> None:
    write(postgres_url, 1, 10)
    backup = PostgresBackup(postgres_url)
    write(postgres_url, 101, 5)
    environment = {
        "IQDB_DATABASE_URL": postgres_url,
        "IQDB_INDEX_DIR": str(tmp_path / "index"),
        "IQDB_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # hints are hints: none is there
    }
    arguments = ["query", "127.0.0.1", "0"]
    node = ServerProcess(arguments, tmp_path / "node.log", environment)
    try:
        node.wait_ready()
        assert node.client.get("/status").json()["images"] == 15
        backup.put_back()
        write(postgres_url, 201, 7)
        wait_until(lambda: "restarted" in node.client.get("/status").json(), 60)
        wait_until(lambda: node.client.get("/status").json()["applied_seq"] == 17, 60)
        for image_id in (1, 10, 201, 207):
            answer = node.client.get(f"/signatures/{image_id}")
            assert answer.content == codec.to_bytes(signature(image_id))
        assert node.client.get("/signatures/101").status_code == 404
        assert node.terminate() == 0
        # What it saved at its end is of the new history: nothing has to be built again.
        node.close()
        node = ServerProcess(arguments, tmp_path / "node.log", environment).wait_ready()
        status = node.client.get("/status").json()
        assert (status["images"], "restarted" in status) == (17, False)
    finally:
        node.close()


def test_roles_live_through_a_restore_whose_tables_vanish_or_are_still_empty(
    postgres_url: str, tmp_path: Path
) -> None:
    """Without a transaction around it, a restore drops what is there long before it has put all back."""
    write(postgres_url, 1, 10)
    environment = {
        "IQDB_DATABASE_URL": postgres_url,
        "IQDB_INDEX_DIR": str(tmp_path / "index"),
        "IQDB_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    with (
        closing(ServerProcess(["query", "127.0.0.1", "0"], tmp_path / "node.log", environment)) as node,
        closing(
            ServerProcess(
                ["api", "127.0.0.1", "0"],
                tmp_path / "api.log",
                environment | {"IQDB_QUERY_URLS": node.wait_ready().url},
            )
        ) as front_end,
        psycopg.connect(postgres_url, autocommit=True) as connection,
    ):

        def assert_away(reason: str) -> None:
            wait_until(lambda: reason in node.client.get("/status").json().get("store_error", ""), 60)
            assert node.client.get("/signatures/10").content == codec.to_bytes(signature(10))

        def assert_back(image_id: int) -> None:
            write(postgres_url, image_id, 1)
            wait_until(lambda: node.client.get(f"/signatures/{image_id}").status_code == 200, 60)
            assert "store_error" not in node.client.get("/status").json()

        front_end.wait_ready()
        assert front_end.client.get("/changes?since=0").status_code == 200
        connection.execute("ALTER SCHEMA public RENAME TO elsewhere")
        assert_away("no store")
        connection.execute("ALTER SCHEMA elsewhere RENAME TO public")
        assert_back(11)
        connection.execute("CREATE TABLE kept AS SELECT * FROM iqdb_store")
        connection.execute("DELETE FROM iqdb_store")
        assert_away("iqdb_store is empty")
        refused = front_end.client.get("/changes?since=0")
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True), refused.text
        connection.execute("INSERT INTO iqdb_store SELECT * FROM kept")
        assert_back(12)
        assert front_end.client.get("/changes?since=10").status_code == 200
        assert front_end.terminate() == 0
        assert node.terminate() == 0
