"""Real pictures and IQDB's own answers through real servers: a cluster for adds, one process for queries."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from iqdb_core import codec
from iqdb_core.signature import from_image_bytes
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = Path(__file__).parents[3] / "shared"
ROOT = Path(__file__).parents[2]
BATCH = 40
TOLERANCE = 0.001

pytestmark = [pytest.mark.shared, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def shared_data() -> None:
    if not SHARED.exists():
        pytest.skip("../shared is not here")


def all_files() -> list[tuple[Path, str]]:
    """Return every good picture with its hash: IQDB's where it gives one, else our own."""
    rows = golden()
    known = {path for path, _ in rows}
    folders = [
        SHARED / "corpus",
        *(SHARED / "sample" / name for name in ("photos", "formats", "exif", "variants")),
    ]
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if path in known or path.suffix in {".csv", ".tsv", ".md", ".txt"}:
            continue
        rows.append((path, codec.to_hash(from_image_bytes(path.read_bytes()))))
    return rows


def golden() -> list[tuple[Path, str]]:
    """Return the files with the hashes that IQDB gives."""
    rows = []
    for table, folder in (("corpus", SHARED / "corpus"), ("sample", SHARED), ("synthetic", SHARED)):
        for line in (SHARED / "golden" / f"{table}.tsv").read_text().splitlines():
            name, text = line.split("\t")
            rows.append((folder / name, text))
    return [row for row in rows if row[0].exists()]


@pytest.fixture
def cluster_url() -> Iterator[str]:
    """Run what `make cluster` runs, and yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,))
    reader.start()
    found: list[str] = []

    def is_ready() -> bool:
        found.extend(re.findall(r"cluster: ready on (\S+)", "".join(lines)))
        return bool(found) or process.poll() is not None

    try:
        wait_until(is_ready, 180, what="the cluster is ready")
        assert found, "".join(lines)
        wait_until(lambda: httpx.get(f"{found[0]}/status").status_code == 200, 60)
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)
        reader.join(10)
        process.stdout.close()


def test_every_golden_file_goes_through_the_cluster(cluster_url: str) -> None:
    files = all_files()
    assert len(files) > 1000
    assert len(golden()) > 800
    wrong: list[Any] = []
    with httpx.Client(base_url=cluster_url, timeout=120) as client:
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            parts = [
                (str(start + number), (path.name, path.read_bytes())) for number, (path, _) in enumerate(part)
            ]
            answer = client.post("/images", files=parts)
            assert answer.status_code == 200, answer.text
            for (path, text), image in zip(part, answer.json()["images"], strict=True):
                if image.get("hash") != text:
                    wrong.append((path.name, image))
        assert wrong == []
        assert client.get("/status").json()["images"] == len(files)
        for number, (_, text) in itertools.islice(enumerate(files), 0, None, 37):
            best = client.post("/query", params={"hash": text, "limit": 1000}).json()
            assert number in [match["post_id"] for match in best if match["hash"] == text]


@pytest.mark.parametrize("name", ["e621-10k", "small-40"])
def test_golden_queries_through_the_embedded_server(name: str, tmp_path: Path) -> None:
    database = tmp_path / f"{name}.sqlite"
    shutil.copyfile(SHARED / "signatures" / f"{name}.sqlite", database)
    lines = (SHARED / "golden" / f"queries-{name}.jsonl").read_text().splitlines()
    with embedded_server(database) as server:
        for line in lines:
            query = json.loads(line)
            expected = query["matches"]
            answer = server.client.post(
                "/query", params={"hash": query["hash"], "limit": len(expected)}
            ).json()
            scores = [match["score"] for match in answer]
            assert scores == pytest.approx([score for _, score in expected], abs=TOLERANCE)
            ours = {match["post_id"]: match["score"] for match in answer}
            last = expected[-1][1]
            for image_id, score in expected:  # the same images, but where the last ones are tied
                assert abs(ours.get(image_id, last) - score) <= TOLERANCE
