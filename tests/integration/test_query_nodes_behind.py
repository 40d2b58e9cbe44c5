"""A query node that answers and cannot follow: nobody waits for it while another node has what it lacks."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from api.search.local import QUERY_THREADS
from api.search.remote import BEHIND_S
from tests.fixtures.cluster import Cluster, best_match, node_states, running_cluster
from tests.fixtures.noise import noise_png
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from tests.fixtures.databases import PostgresServer

pytestmark = pytest.mark.waits
PICTURES = [noise_png(seed) for seed in range(2)]
WRITES = 40
ADD_TIMEOUT_S = 60.0
"""What a write may wait, as installed."""
NODE = "node_of_its_own"


class Databases:
    """A database whose connections of one role can be taken away, or made to hang."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.url = url
        self.url_of_node = url.replace("postgres@", f"{NODE}@")
        self._server = server
        self._frozen: list[int] = []
        self.execute(f"CREATE ROLE {NODE} LOGIN SUPERUSER")

    def execute(self, statement: str) -> None:
        self._server.execute(statement)

    def backends(self) -> list[int]:
        with psycopg.connect(self.url) as connection:
            asked = connection.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", (NODE,))
            return [row[0] for row in asked]

    def take_away(self) -> None:
        self.execute(f"ALTER ROLE {NODE} NOLOGIN")
        for pid in self.backends():
            self.execute(f"SELECT pg_terminate_backend({pid})")

    def hang(self) -> None:
        self._frozen = self.backends()
        assert self._frozen
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def give_back(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        self._frozen = []
        self.execute(f"ALTER ROLE {NODE} LOGIN")


@contextmanager
def cluster_with_own_database(
    folder: Path, server: PostgresServer, query_nodes: int
) -> Iterator[tuple[Cluster, Databases]]:
    """A cluster whose first node reaches the database by a role of its own."""
    with server.fresh_database() as url:
        databases = Databases(server, url)
        try:
            with running_cluster(folder, url, query_nodes=query_nodes) as cluster:
                cluster.queries[0].close()
                cluster.environment["IQDB_DATABASE_URL"] = databases.url_of_node
                cluster.start_query(0)
                cluster.environment["IQDB_DATABASE_URL"] = url
                wait_until(lambda: set(node_states(cluster.client)) == {"ready"}, 60)
                try:
                    yield cluster, databases
                finally:
                    databases.give_back()
        finally:
            databases.execute(f"DROP ROLE {NODE}")


def seconds_of_write(client: httpx.Client, image_id: int, picture: bytes) -> float:
    began = time.monotonic()
    assert client.post(f"/images/{image_id}", files={"file": picture}).status_code == 200
    return time.monotonic() - began


@pytest.mark.parametrize("fault", [Databases.take_away, Databases.hang], ids=["away", "hangs"])
def test_a_node_that_cannot_follow_delays_no_write(
    fault: Callable[[Databases], None], tmp_path: Path, private_postgres: PostgresServer
) -> None:
    with cluster_with_own_database(tmp_path, private_postgres, 2) as (cluster, databases):
        client = cluster.client

        def returns() -> int:
            told = cluster.apis[0].log.read_text().splitlines()
            return sum("answers again" in line and cluster.queries[0].url in line for line in told)

        assert client.post("/images/0", files={"file": PICTURES[0]}).status_code == 200
        fault(databases)
        before = returns()
        meanwhile = []
        for number in range(1, WRITES):
            picture = noise_png(1000 + number)
            meanwhile.append(seconds_of_write(client, number, picture))
            # Whichever node is asked, what was answered 200 is found.
            assert [best_match(client, picture) for _ in range(3)] == [number] * 3
        # Other load may slow some of them down, but a node that is waited for slows each.
        assert sorted(meanwhile)[WRITES // 4] < BEHIND_S, "the node was waited for"
        assert max(meanwhile) < ADD_TIMEOUT_S / 2, "the node was waited for once"
        wait_until(lambda: node_states(client) == ["behind", "ready"], 60)
        assert returns() == before, "it was believed meanwhile"
        job = client.post("/images/1000?wait=false", files={"file": PICTURES[1]}).headers["location"]
        wait_until(lambda: client.get(job).json()["state"] == "done", 60)
        databases.give_back()
        wait_until(lambda: node_states(client) == ["ready", "ready"], 90)
        assert [best_match(client, PICTURES[1]) for _ in range(4)] == [1000] * 4


def test_a_done_job_is_shown_though_the_only_node_cannot_follow(
    tmp_path: Path, private_postgres: PostgresServer
) -> None:
    with cluster_with_own_database(tmp_path, private_postgres, 1) as (cluster, databases):
        client = cluster.client
        assert client.post("/images/0", files={"file": PICTURES[0]}).status_code == 200
        databases.take_away()
        job = client.post("/images/1?wait=false", files={"file": PICTURES[1]}).headers["location"]
        client.timeout = ADD_TIMEOUT_S / 2
        wait_until(lambda: client.get(job).json()["state"] == "done", 60)
        # It goes on answering with what it has.
        assert best_match(client, PICTURES[0]) == 0
        wait_until(lambda: node_states(client) == ["ready"], 60)
        databases.give_back()
        wait_until(lambda: len(client.post("/query", files={"file": PICTURES[1]}).json()) == 2, 60)


def test_answers_keep_coming_while_the_database_hangs(
    tmp_path: Path, private_postgres: PostgresServer
) -> None:
    """They only tell less: no sources; what needs the database says so, and the node counts as well."""
    with (
        private_postgres.fresh_database() as url,
        running_cluster(tmp_path, url) as cluster,
        ThreadPoolExecutor(4) as threads,
    ):
        client = cluster.client
        for number in (0, 1):
            form = {"source": f"page {number}"}
            answer = client.post(f"/images/{number}", files={"file": PICTURES[0]}, data=form)
            assert answer.status_code == 200
        assert client.get("/duplicates").json()["groups"] != []
        private_postgres.pause()
        try:
            began = time.monotonic()
            duplicates = [threads.submit(client.get, "/duplicates") for _ in range(QUERY_THREADS + 2)]
            copies = [
                threads.submit(client.post, "/query?find=copies", files={"file": PICTURES[0]})
                for _ in range(QUERY_THREADS + 2)
            ]
            for answer in (asked.result() for asked in copies):
                assert answer.status_code == 200, answer.text
                assert [match["post_id"] for match in answer.json()] == [0, 1]
                assert "source" not in answer.json()[0]
            assert {asked.result().status_code for asked in duplicates} == {503}
            assert client.get("/images/0").status_code == 200
            assert time.monotonic() - began < ADD_TIMEOUT_S / 2
            assert "query node" not in cluster.apis[0].log.read_text(), "it was never thought to be ill"
        finally:
            private_postgres.resume()
        wait_until(lambda: client.get("/duplicates").status_code == 200, 90)
        wait_until(lambda: client.get("/images/1").json().get("source") == "page 1", 90)


def test_a_node_without_its_database_stays_well(tmp_path: Path, private_postgres: PostgresServer) -> None:
    with cluster_with_own_database(tmp_path, private_postgres, 1) as (cluster, databases):
        client = cluster.client
        assert client.post("/images/0", files={"file": PICTURES[0]}).status_code == 200
        databases.take_away()
        before = cluster.apis[0].log.read_text().count("query node")
        assert client.get("/duplicates").status_code in {500, 503}
        assert cluster.apis[0].log.read_text().count("query node") == before
        wait_until(lambda: node_states(client) == ["ready"], 60)
