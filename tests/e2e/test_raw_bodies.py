"""Pictures as whole bodies, and what curl does when it is not told what it sends."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.noise import noise_png
from tests.fixtures.servers import ServerProcess, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = noise_png(1)
LARGE = noise_png(2, side=1300)
"""More than waits in memory, and more than a form may hold."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("raw")
    with embedded_server(folder / "iqdb.sqlite", "--max-upload-bytes", "8000000") as running:
        yield running


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", ""])
def test_a_body_is_a_picture(server: ServerProcess, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    added = server.client.post("/images/1", content=PICTURE, headers=headers)
    assert added.status_code == 200, added.text
    as_form = server.client.post("/images/2", files={"file": PICTURE})
    assert added.json()["hash"] == as_form.json()["hash"]
    found = server.client.post("/query?limit=1&min_score=50", content=PICTURE, headers=headers)
    assert [match["post_id"] for match in found.json()] == [1]


def test_a_large_body_waits_on_disk(server: ServerProcess) -> None:
    assert len(LARGE) > 4 * 1024 * 1024
    answer = server.client.post("/images/3", content=LARGE, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    too_large = server.client.post("/images/3", content=bytes(8000001), headers={"Content-Type": "image/png"})
    assert too_large.status_code == 413


def test_each_picture_of_a_batch_is_limited_like_a_single_one(server: ServerProcess) -> None:
    """All together may be larger, whether they are added or asked about."""
    parts = {"4": LARGE, "5": LARGE, "6": bytes(8000001)}
    added = server.client.post("/images", files=parts)
    assert [one["status"] for one in added.json()["images"]] == [200, 200, 413]
    asked = server.client.post("/query/batch?limit=1", files=parts)
    assert [one["status"] for one in asked.json()["results"]] == [200, 200, 413]
    server.client.request("DELETE", "/images", json=[4, 5])


@pytest.mark.parametrize("path", ["/images/1", "/query"])
def test_a_body_that_is_no_picture_is_refused(server: ServerProcess, path: str) -> None:
    headers = {"Content-Type": "image/png"}
    assert server.client.post(path, content=b"not a picture", headers=headers).status_code == 422
    empty = server.client.post(path, content=b"", headers=headers)
    assert empty.status_code == 400
    other = server.client.post(path, content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert (other.status_code, "text/xml" in other.json()["message"]) == (400, True)


@pytest.mark.parametrize("picture", [PICTURE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("path", ["/images/1", "/query"])
def test_a_picture_called_a_form_gets_advice(server: ServerProcess, path: str, picture: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = server.client.post(path, content=picture, headers=headers)
    assert answer.status_code == 400
    assert "curl --data-binary @FILE -H 'Content-Type: image/jpeg'" in answer.json()["message"]


def test_real_forms_still_work(server: ServerProcess) -> None:
    text = server.client.post("/images/4", files={"file": PICTURE}).json()["hash"]
    assert server.client.post("/images/4", data={"hash": text}).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_sends_a_raw_body(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    command = ["curl", "--silent", "--show-error", "--data-binary", f"@{file}", f"{server.url}/images/5"]
    wrong = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "-H 'Content-Type: image/jpeg'" in wrong
    right = subprocess.run(
        [*command, "-H", "Content-Type: image/jpeg"], check=True, capture_output=True, text=True
    ).stdout
    assert '"post_id":5' in right
