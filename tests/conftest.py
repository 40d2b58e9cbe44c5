"""For all tests: a clean environment, one hypothesis profile, temporary files in memory, the order of tests.

Fixtures are in tests/fixtures, by subject.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hypothesis
import pytest

from iqdb_core.gc_freeze import without_gc
from iqdb_core.temporary import TemporaryFolder
from tests.fixtures.forked_roles import shared_forker

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = [
    "tests.fixtures.databases",
    "tests.fixtures.ledgers",
    "tests.fixtures.page",
    "tests.fixtures.role_logs",
]

for name in [name for name in os.environ if name.startswith("IQDB_")]:
    del os.environ[name]  # a developer's shell must not leak into the product under test

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    # Under nohup, or behind a script's `&`, these are ignored, also by all that tests start.
    # A handler that does nothing keeps this process running, and is reset in the programs that it starts.
    is_hangup = number is signal.SIGHUP and "PYTEST_XDIST_WORKER" in os.environ
    if is_hangup or signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # times vary on busy machines; the timeout of tests ends what hangs
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("project")

_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_ROOM: Final = 4 << 30
"""Bytes; a whole run in five processes takes at most 0.7 GB."""


def _folder_in_memory() -> TemporaryFolder | None:
    """Return a folder for all temporary files of a run, if they can be in memory.

    Memory is faster than a disk, and otherwise differs only when power is cut, which no test does.
    """
    is_chosen = "TMPDIR" in os.environ  # by the developer, or by the process that shares the tests out
    if is_chosen or not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM:
        return None
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:  # Postgres may have to be run from there
        return None
    tempfile.tempdir = str(_MEMORY)
    folder = TemporaryFolder("tests")
    folder.path.chmod(0o1777)  # as /tmp: Postgres may run as another user
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder.path)  # also of all processes that tests start
    return folder


_folder: Final = _folder_in_memory()
_at_the_end: Final = ExitStack()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let the test processes share the process that forks roles."""
    if _folder is not None and sys.platform == "linux":
        _at_the_end.callback(shared_forker(_folder.path))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the temporary files, unless a test failed: then they stay until the next run."""
    _at_the_end.close()
    if _folder is not None and exitstatus == pytest.ExitCode.OK:
        _folder.close()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from scanning again and again what the tests import."""
    with without_gc():
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let half of the test processes begin with the tests that wait, while the others compute.

    xdist first gives each process the same number of consecutive tests, and later shares out what is left.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    beginners = max(processes // 2, 1)
    waiting = [item for item in items if item.get_closest_marker("waits")]
    others = iter([item for item in items if not item.get_closest_marker("waits")])
    ordered: list[pytest.Item] = []
    for number in range(processes):
        end = len(items) * (number + 1) // processes
        if number < beginners:
            ordered += waiting[number::beginners]
        ordered += itertools.islice(others, max(end - len(ordered), 0))
    items[:] = ordered
