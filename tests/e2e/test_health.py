"""What `/status` says of a server, well and in trouble."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from tests.fixtures.noise import noise_png
from tests.fixtures.ports import free_port
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.databases import PostgresServer
    from tests.fixtures.redis import RedisServer


def test_status_tells_of_the_process_and_of_the_index(tmp_path: Path) -> None:
    file = tmp_path / "iqdb.sqlite"
    with embedded_server(file) as server:
        assert server.client.post("/images/1", files={"file": noise_png(1)}).status_code == 200
        body = server.client.get("/status").json()
        assert body["version"] == importlib.metadata.version("iqdb-server")
        assert body["uptime_s"] >= 0
        assert body["maintenance"] == {"state": "running"}
        assert "store_error" not in body
        assert server.terminate() == 0
    with embedded_server(file) as server:
        checkpoint = server.client.get("/status").json()["checkpoint"]
        assert checkpoint["seq"] == 1
        assert checkpoint["age_s"] >= 0
        assert server.terminate() == 0
    manifest = tmp_path / "iqdb.sqlite.index" / "manifest"
    manifest.write_bytes(b"no manifest")
    with embedded_server(file) as server:
        body = server.client.get("/status").json()
        assert body["images"] == 1
        assert body["checkpoint"]["refused"]
        assert str(tmp_path) not in server.client.get("/status").text
        wait_until(lambda: "iqdb_maintenance_trouble 0.0" in server.client.get("/metrics").text, 30)


def test_a_front_end_says_what_is_wrong_with_the_address_of_the_database(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    with redis_server.client() as redis:
        redis.flushall()  # with a clock in Redis nobody would have to ask the store
    environment = {
        "IQDB_DATABASE_URL": postgres_server.url("made_later"),
        "IQDB_REDIS_URL": redis_server.url,
        "IQDB_QUERY_URLS": f"http://127.0.0.1:{free_port()}",
    }
    front_end = ServerProcess(["api", "127.0.0.1", "0"], tmp_path / "api.log", environment)
    try:
        client = front_end.wait_ready().client
        assert "does not exist" in client.get("/status").json()["store_error"]
        refused = client.delete("/images/1")
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        words = "the database does not let the server in: there is no database of that name"
        assert refused.json()["message"] == words
        assert "made_later" not in refused.text + client.get("/status").text
        assert 'database "made_later" does not exist' in front_end.errors()
        postgres_server.execute("CREATE DATABASE made_later")
        wait_until(lambda: "store_error" not in client.get("/status").json(), 30)
        assert client.get("/changes?since=0").status_code == 200
        assert front_end.terminate() == 0
    finally:
        front_end.close()
        postgres_server.execute("DROP DATABASE IF EXISTS made_later WITH (FORCE)")


def test_queries_are_answered_while_the_database_is_away(tmp_path: Path) -> None:
    file, aside = tmp_path / "iqdb.sqlite", tmp_path / "aside"
    picture = {"file": noise_png(1)}
    with embedded_server(file) as server:
        client = server.client
        assert client.post("/images/1?source=a.png", files=picture).status_code == 200
        file.rename(aside)
        for _ in range(3):
            assert client.get("/images/1").status_code == 200
            for find in ("", "?find=copies"):
                answer = client.post(f"/query{find}", files=picture)
                assert (answer.status_code, answer.json()[0]["post_id"]) == (200, 1)
            refused = client.post("/images/2", files=picture)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert str(tmp_path) not in refused.text
            status = client.get("/status")
            assert status.json()["write_error"]
            assert str(tmp_path) not in status.text
            assert "iqdb_write_trouble 1.0" in client.get("/metrics").text
        wait_until(lambda: "store_error" in client.get("/status").json(), 30)
        aside.rename(file)
        wait_until(lambda: client.post("/images/2", files=picture).status_code == 200, 30)
        assert client.get("/images/1").json()["source"] == "a.png"
        assert "write_error" not in client.get("/status").json()
        assert "iqdb_write_trouble 0.0" in client.get("/metrics").text
        assert server.errors().count("writes are refused") == 1
        assert server.terminate() == 0
