"""`make cluster` on a bare machine: the Procfile's processes come up, serve, and all end on Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.fixtures.noise import noise_png
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where it has its temporary files; Postgres reaches it as another user, too."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cluster(tmp_path: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    binaries = str(Path(sys.executable).parent)
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "--port", "0", "--workers", "2"],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "TMPDIR": str(place)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process
    family = (
        [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []
    )
    for member in family:
        member.kill()
    process.wait(20)


def test_make_cluster_serves_and_ends_whole(
    cluster: subprocess.Popen[bytes], tmp_path: Path, place: Path
) -> None:
    def url() -> re.Match[str] | None:
        assert cluster.poll() is None, text()
        return re.search(r"cluster: ready on (http://\S+)", text())

    def text() -> str:
        return (tmp_path / "output").read_text(errors="replace")

    wait_until(url, 120, every_s=0.1, what="the cluster is ready")
    wait_until(lambda: text().count("worker is ready") == 2, 60, what="both workers are ready")
    match = url()
    assert match is not None
    with httpx.Client(base_url=match[1], timeout=60) as client:
        added = client.post("/images/7", files={"file": noise_png(1)})
        assert added.status_code == 200
        [found] = client.post("/query", files={"file": noise_png(1)}).json()
        assert (found["post_id"], found["hash"]) == (7, added.json()["hash"])
    family = psutil.Process(cluster.pid).children(recursive=True)
    assert len(family) >= 6  # Redis, Postgres, front end, query node, two workers
    cluster.send_signal(signal.SIGINT)
    assert cluster.wait(90) == 0
    _, left = psutil.wait_procs(family, 30)
    assert left == []
    assert text().count("stopped (rc=0)") == 4, text()
    assert [*place.glob("iqdb-pg-*"), *place.glob("iqdb-cluster-*")] == []
