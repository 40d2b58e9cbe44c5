"""The container image and the compose file as an operator uses them; run by `make check-image`.

Needs docker or podman, and a registry with the base images. What this machine calls them, and what a build
needs here, can be said: CONTAINERS="podman", COMPOSE="podman-compose", BUILD_OPTIONS="--network host".
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures import pictures
from tests.fixtures.cluster import node_states
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
IMAGE = "iqdb-server"
TOKEN = "secret"
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # noqa: S108
SERVER = ["http", "0.0.0.0", "5588"]  # noqa: S104 - of the container
DEADLINE_S = 120


@functools.cache
def made_pictures() -> list[bytes]:
    return [pictures.picture(seed, (160, 120)) for seed in range(12)]


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def named_or_found(variable: str, *candidates: tuple[str, ...], asking: str) -> list[str]:
    """Return the command that a variable names, or the first that answers; skip the test without one."""
    if named := shlex.split(os.environ.get(variable, "")):
        return named
    for candidate in candidates:
        if works(*candidate, asking):
            return list(candidate)
    pytest.skip(f"{' and '.join(' '.join(one) for one in candidates)} are not here; see {variable}")


def said(*command: str, **environment: str) -> str:
    """Run a command that has to succeed, and return what it prints."""
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> list[str]:
    return named_or_found("CONTAINERS", ("docker",), ("podman",), asking="info")


@pytest.fixture(scope="module")
def image(engine: list[str]) -> str:
    said(*engine, "build", *shlex.split(os.environ.get("BUILD_OPTIONS", "")), "--tag", IMAGE, ".")
    return IMAGE


class Container:
    """One container of the embedded server."""

    def __init__(self, engine: list[str]) -> None:
        self._engine = engine
        self._name = f"iqdb-test-{uuid.uuid4().hex[:8]}"
        self._port = free_port()
        self.client = client_of(self._port)

    def run(self, image: str, options: list[str], arguments: list[str]) -> None:
        self._run(
            *("run", "--detach", "--name", self._name, "--publish", f"127.0.0.1:{self._port}:5588"),
            *("--env", f"IQDB_TOKEN={TOKEN}", *HARDENED, *options, image, *arguments),
        )

    def stop(self) -> int:
        """Stop it as an operator does, and return its exit code."""
        self._run("stop", "-t", "60", self._name)
        return int(self._run("inspect", "--format", "{{.State.ExitCode}}", self._name))

    def start(self) -> None:
        self._run("start", self._name)

    def logs(self) -> str:
        done = subprocess.run([*self._engine, "logs", self._name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def remove(self) -> None:
        self.client.close()
        self._run("rm", "--force", "--volumes", self._name)  # also one that could not be started

    def _run(self, *words: str) -> str:
        return said(*self._engine, *words)


def client_of(port: int) -> httpx.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def finds_all(client: httpx.Client) -> bool:
    """Whether each picture finds itself, on every query node behind this address."""
    return all(
        client.post("/query?limit=1", files={"file": picture}).json()[0]["post_id"] == number
        for _ in range(4)
        for number, picture in enumerate(made_pictures())
    )


def add_all(client: httpx.Client) -> None:
    for number, picture in enumerate(made_pictures()):
        answer = client.post(f"/images/{number}", files={"file": picture})
        assert answer.status_code == 200, answer.text


@pytest.fixture(params=["a volume", "a folder of another user"])
def container(
    request: pytest.FixtureRequest, engine: list[str], image: str, tmp_path: Path
) -> Iterator[Container]:
    tmp_path.chmod(0o777)
    options, arguments = {
        "a volume": (["--volume", "/var/lib/iqdb"], SERVER),
        "a folder of another user": (
            ["--user", "12345", "--volume", f"{tmp_path}:/data"],
            [*SERVER, "/data/iqdb.db"],
        ),
    }[request.param]
    container = Container(engine)
    try:
        container.run(image, options, arguments)
        yield container
    finally:
        container.remove()


def test_a_container_serves_without_rights_and_keeps_what_it_took(container: Container) -> None:
    wait_until(lambda: is_ready(container.client), DEADLINE_S)
    add_all(container.client)
    assert finds_all(container.client)
    assert container.stop() == 0
    container.start()
    wait_until(lambda: is_ready(container.client), DEADLINE_S)
    assert finds_all(container.client)
    # Kernels were compiled when the image was built, on the same kind of processor.
    assert "preparing" not in container.logs()


@pytest.fixture
def stack(engine: list[str], image: str) -> Iterator[httpx.Client]:
    assert image == IMAGE
    compose = named_or_found(
        "COMPOSE", (*engine, "compose"), ("docker-compose",), ("podman-compose",), asking="version"
    )
    port = free_port()
    environment = {"IQDB_TOKEN": TOKEN, "IQDB_PORT": str(port), "COMPOSE_PROJECT_NAME": "iqdb-test"}
    try:
        said(*compose, "up", "--detach", "--scale", "query=2", **environment)
        with client_of(port) as client:
            yield client
    finally:
        said(*compose, "down", "--volumes", "--remove-orphans", **environment)


def test_the_compose_file_brings_up_every_role(stack: httpx.Client) -> None:
    wait_until(lambda: is_ready(stack), DEADLINE_S, every_s=0.5)
    wait_until(lambda: node_states(stack) == ["ready", "ready"], DEADLINE_S, every_s=0.5)
    add_all(stack)
    assert finds_all(stack)
    status = stack.get("/status").json()
    assert status["images"] == len(made_pictures())
    assert status["queue"]["state"] == "ready"
    # It reports with each of its sweeps.
    wait_until(lambda: len(stack.get("/status").json()["workers"]) == 1, DEADLINE_S, every_s=0.5)
