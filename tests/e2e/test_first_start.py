"""A server where nothing is compiled yet: right at once, fast a little later, and easy to stop."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.fixtures import pictures
from tests.fixtures.servers import ServerProcess, embedded_server
from tests.fixtures.waiting import wait_until

NOTICE = "iqdb: preparing for this machine, which takes half a minute, once; answers are correct meanwhile"
FILES = [pictures.picture(seed, (90, 70)) for seed in range(4)]


def answers_of(server: ServerProcess) -> list[object]:
    """Add, replace, delete and ask; return everything that was answered."""
    client = server.client
    answers: list[object] = [
        client.post(f"/images/{number}", files={"file": file}).json() for number, file in enumerate(FILES)
    ]
    answers.append(client.post("/images/2", files={"file": FILES[3]}).json())
    answers.append(client.delete("/images/1").json())
    answers += [client.post("/query", files={"file": file}).json() for file in FILES]
    answers.append(client.get("/status").json()["images"])
    return answers


def test_the_first_answers_are_those_of_later_ones_and_the_stop_is_prompt(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "later.sqlite") as server:
        expected = answers_of(server)
    nothing_compiled = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    with embedded_server(tmp_path / "first.sqlite", environment=nothing_compiled) as server:
        assert answers_of(server) == expected
        assert expected[-1] == 3
        assert NOTICE in server.errors()
        assert server.errors().count("iqdb: ") == 1
        process = psutil.Process(server.process.pid)
        wait_until(lambda: len(process.children()) == 2, 60, what="two processes compile")
        children = process.children()
        assert not any("numba" in file.path for file in process.memory_maps()), "no compiler in the server"
        assert server.terminate() == 0
        wait_until(lambda: not any(map(psutil.pid_exists, [child.pid for child in children])), 30)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_full_speed_is_reported_and_compiled_code_is_cached(tmp_path: Path) -> None:
    compiled = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    with embedded_server(tmp_path / "x.sqlite", environment=compiled) as server:
        expected = answers_of(server)
        wait_until(lambda: "iqdb: at full speed after" in server.errors(), 500)
        assert answers_of(server) == expected
        assert server.terminate() == 0
    with embedded_server(tmp_path / "y.sqlite", environment=compiled) as server:
        assert answers_of(server) == expected
        assert server.terminate() == 0
        assert server.errors() == ""
