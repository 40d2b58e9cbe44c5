"""What a query node makes of questions that no front end of ours asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("node")
    with embedded_server(folder / "iqdb.sqlite"):
        pass  # a node opens no database that is not there
    environment = {
        "IQDB_DATABASE_URL": str(folder / "iqdb.sqlite"),
        "IQDB_INDEX_DIR": str(folder / "index"),
        "IQDB_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # hints are hints: none is there
    }
    server = ServerProcess(["query", "127.0.0.1", "0"], folder / "node.log", environment)
    try:
        yield server.wait_ready().client
    finally:
        server.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/wait", b""),
        ("GET", "/wait?seq=x", b""),
        ("GET", "/wait?seq=1&timeout_s=nan", b""),
        *(("POST", "/sources", body) for body in (b"", b"[", b"7", b"{}", b"[null]", b"[-1]", b'["1"]')),
    ],
)
def test_what_is_not_understood_is_400(node: httpx.Client, method: str, path: str, body: bytes) -> None:
    answer = node.request(method, path, content=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_valid_requests_are_answered(node: httpx.Client) -> None:
    assert node.get("/wait?seq=0&timeout_s=inf").json()["is_applied"] is True
    assert node.get("/wait?seq=9&timeout_s=-inf").json()["is_applied"] is False
    assert node.post("/sources", content=b"[1, 2]").json() == []
