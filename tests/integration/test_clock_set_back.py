"""Two processes write to one store whose newest write is ahead of the time: a clock was wrong once."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.roles.command_parts.local import DatabaseTarget
from iqdb_core import codec
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures.cluster import running_cluster
from tests.fixtures.command_line import run
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.stores import signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_2100 = 4_102_444_800_000_000
N_IMAGES = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    path = tmp_path / "iqdb.sqlite"
    store = open_store(str(path))
    store.apply([Write(0, IN_2100, signature(0))])
    store.close()
    with embedded_server(path) as running:
        yield running


def listed(folder: Path, first: int) -> Path:
    """Return a list of images, each with a signature of its own."""
    path = folder / f"{first}.ndjson"
    lines = [{"id": number, "hash": hash_of(first + number)} for number in range(N_IMAGES)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def hash_of(number: int) -> str:
    return codec.to_hash(signature(number))


def test_what_a_command_wrote_can_be_changed_by_the_server(server: ServerProcess, tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    assert run("add", listed(tmp_path, 100), "--db", database).returncode == 0
    assert server.client.delete("/images/3").status_code == 200
    assert server.client.get("/images/3").status_code == 404
    added = server.client.post("/images/5", data={"hash": hash_of(7)})
    assert added.json()["hash"] == server.client.get("/images/5").json()["hash"] == hash_of(7)


def test_what_the_server_wrote_can_be_changed_by_a_command(server: ServerProcess, tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    images = [{"post_id": number, "hash": hash_of(500 + number)} for number in range(N_IMAGES)]
    # The command reads how far the numbers are when it begins; the server counts on meanwhile.
    store = open_store(str(database))
    with DatabaseTarget(str(database), max_pixels=1_000_000, progress=lambda *_: None) as target:
        assert server.client.post("/images", json={"images": images}).status_code == 200
        target.remove([3, 4])
    assert server.client.get("/images/5").status_code == 200
    assert {image.image_id for image in store.ids_after(-1, 100)} == {*range(N_IMAGES)} - {3, 4}
    store.close()


@pytest.mark.parametrize("change", ["add", "delete"])
def test_what_is_ahead_in_a_file_put_in_place_can_be_changed(tmp_path: Path, change: str) -> None:
    """The server counted from what the file before had; no write has told it of the new one's numbers."""
    database, new = tmp_path / "iqdb.sqlite", tmp_path / "new.sqlite"
    with closing(open_store(str(new))) as store:
        store.apply([Write(number, IN_2100, signature(number)) for number in range(3)])
    open_store(str(database)).close()
    with embedded_server(database) as server:
        new.rename(database)
        wait_until(lambda: server.client.get("/status").json()["images"] == 3, 60)
        if change == "add":
            assert server.client.post("/images/1", data={"hash": hash_of(7)}).status_code == 200
            assert server.client.get("/images/1").json()["hash"] == hash_of(7)
        else:
            assert server.client.delete("/images/1").status_code == 200
            assert server.client.get("/images/1").status_code == 404


def test_what_a_command_wrote_can_be_changed_by_workers(tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    store = open_store(str(database))
    store.apply([Write(0, IN_2100, signature(0))])
    store.close()
    with running_cluster(tmp_path, str(database)) as cluster:
        assert run("add", listed(tmp_path, 100), "--db", database).returncode == 0
        for image_id in (0, 3):
            assert cluster.client.delete(f"/images/{image_id}").status_code == 200
            assert cluster.client.get(f"/images/{image_id}").status_code == 404
        added = cluster.client.post("/images/5", data={"hash": hash_of(7)})
        assert added.status_code == 200
        assert added.json()["hash"] == cluster.client.get("/images/5").json()["hash"] == hash_of(7)
