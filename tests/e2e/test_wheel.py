"""The wheel, installed as the container image does it, into a clean environment; every role runs from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.noise import noise_png
from tests.fixtures.ports import free_port
from tests.fixtures.redis import RedisServer
from tests.fixtures.servers import ServerProcess
from tests.fixtures.waiting import wait_until

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "api" / "web" / "subjects" / "static"
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def iqdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command."""
    folder = tmp_path_factory.mktemp("clean")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    venv.create(folder / "venv", with_pip=True)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    lock = ["--require-hashes", "-r", str(folder / "source" / "requirements.lock")]
    own = ["--no-deps", "--no-build-isolation", str(folder / "source")]
    for words in (lock, own):
        subprocess.run([*pip, "--disable-pip-version-check", *words], check=True, timeout=600)
    shutil.rmtree(folder / "source")
    return folder / "venv" / "bin" / "iqdb"


def environment(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": "", "PYTHONSAFEPATH": "1", "HOME": str(folder)}


def test_the_embedded_server_runs_from_the_wheel(iqdb: Path, tmp_path: Path) -> None:
    version = subprocess.run([iqdb, "--version"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert version.stdout.strip()
    server = ServerProcess(
        ["http", "127.0.0.1", "0", "images.sqlite"],
        tmp_path / "log",
        environment(tmp_path),
        program=[str(iqdb)],
        cwd=tmp_path,
    )
    try:
        client = server.wait_ready(600).client
        assert client.post("/images/1", files={"file": noise_png(1)}).status_code == 200
        assert client.post("/query", files={"file": noise_png(1)}).json()[0]["post_id"] == 1
        static = [f"/static/{one.name}" for one in STATIC.iterdir() if one.suffix in {".js", ".css", ".svg"}]
        assert "/static/main.js" in static
        for path in ("/", *static, "/metrics", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert server.terminate() == 0
    finally:
        server.close()
    assert (tmp_path / "images.sqlite").exists()


def test_the_distributed_roles_run_from_the_wheel(iqdb: Path, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        redis = RedisServer(tmp_path / "redis")
        redis.start()
        stack.callback(redis.stop)
        settings = {
            **environment(tmp_path),
            "IQDB_DATABASE_URL": str(tmp_path / "iqdb.sqlite"),
            "IQDB_REDIS_URL": redis.url,
            "IQDB_QUERY_URLS": f"http://127.0.0.1:{port}",
            "IQDB_INDEX_DIR": str(tmp_path / "index"),
            "IQDB_WORKER_PROCESSES": "1",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IQDB_")}
        upgrade = subprocess.run([iqdb, "upgrade"], cwd=tmp_path, env={**clean, **settings}, check=False)
        assert upgrade.returncode == 0
        roles = {}
        for words in (["query", "127.0.0.1", str(port)], ["api", "127.0.0.1", "0"], ["worker"]):
            role = ServerProcess(
                words, tmp_path / f"{words[0]}.log", settings, program=[str(iqdb)], cwd=tmp_path
            )
            stack.callback(role.close)
            roles[words[0]] = role
        roles["query"].wait_ready(600)
        client = roles["api"].wait_ready(600).client
        queued = client.post("/images/1?wait=false", files={"file": noise_png(1)})
        assert queued.status_code == 202
        job = queued.headers["location"]
        wait_until(lambda: client.get(job).json()["state"] == "done", 600)
        assert client.post("/query", files={"file": noise_png(1)}).json()[0]["post_id"] == 1
        assert roles["worker"].terminate() == 0
