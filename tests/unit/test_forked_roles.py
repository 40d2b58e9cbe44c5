"""What tests fork is a process like any other: its own files, environment, signals and exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.fixtures.forked_roles import ForkedProcess, can_fork

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Python anew elsewhere")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@contextmanager
def forked(database: Path, log: Path) -> Iterator[ForkedProcess]:
    with log.open("ab") as errors:
        process = ForkedProcess(
            "api",
            ["http", "127.0.0.1", "0", str(database)],
            stderr=errors.fileno(),
            environment=os.environ,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def role(tmp_path: Path, log: Path) -> Iterator[ForkedProcess]:
    with forked(tmp_path / "iqdb.sqlite", log) as process:
        yield process


@pytest.fixture
def another(tmp_path: Path) -> Iterator[ForkedProcess]:
    with forked(tmp_path / "another.sqlite", tmp_path / "another.log") as process:
        yield process


def is_ready(process: ForkedProcess) -> bool:
    assert process.stdout is not None
    return process.stdout.readline().startswith("iqdb: ready on ")


def test_a_forked_role_runs_until_a_signal_and_exits_cleanly(role: ForkedProcess, tmp_path: Path) -> None:
    assert is_ready(role)
    assert role.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        role.wait(0.01)
    role.terminate()
    assert role.wait(40) == role.poll() == 0
    assert not psutil.pid_exists(role.pid)
    assert not (tmp_path / "iqdb.sqlite-wal").exists()
    assert list((tmp_path / "iqdb.sqlite.index").rglob("*manifest*")), "what is done at the end was done"


def test_a_kill_ends_it_alone(role: ForkedProcess, another: ForkedProcess) -> None:
    assert another.pid != role.pid
    assert is_ready(role)
    role.kill()
    assert role.wait(20) == -signal.SIGKILL
    role.send_signal(signal.SIGTERM)  # to nobody
    assert is_ready(another)
    another.send_signal(signal.SIGINT)
    assert another.wait(40) == 0


def pipes_of(process: ForkedProcess) -> set[str]:
    """Return the pipes and sockets that a process holds."""
    files = [one.readlink().name for one in Path(f"/proc/{process.pid}/fd").iterdir()]
    return {name for name in files if name.startswith(("pipe:", "socket:"))}


def test_it_has_files_of_its_own(role: ForkedProcess, log: Path, another: ForkedProcess) -> None:
    assert is_ready(role)
    assert is_ready(another)
    assert Path(f"/proc/{role.pid}/fd/2").readlink() == log
    assert pipes_of(role)
    assert pipes_of(role).isdisjoint(pipes_of(another))
    assert psutil.Process(role.pid).cwd() == str(Path(__file__).parents[2])


def test_wrong_usage_and_broken_settings_have_their_exit_status(log: Path) -> None:
    for arguments, setting, status in ((["http", "--nonsense"], "1", 2), (["http"], "x", 2)):
        with log.open("ab") as errors:
            environment = {**os.environ, "IQDB_MAX_PIXELS": setting}
            process = ForkedProcess(
                "api", arguments, stdout=errors.fileno(), stderr=errors.fileno(), environment=environment
            )
        assert process.wait(40) == status, log.read_text()
    assert "IQDB_MAX_PIXELS must be a whole number above 0, not 'x'" in log.read_text()


def test_variables_read_at_import_cannot_be_forked() -> None:
    assert can_fork({**os.environ, "IQDB_TOKEN": "x", "TMPDIR": "/x"})
    assert not can_fork({**os.environ, "NUMBA_CACHE_DIR": "x"})
    assert not can_fork({name: value for name, value in os.environ.items() if name != "PATH"})
