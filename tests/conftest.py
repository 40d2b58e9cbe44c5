"""What every test may count on: a clean environment and one hypothesis profile; and in which order tests run.

Fixtures live in tests/fixtures, by subject.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import hypothesis
import pytest

pytest_plugins = ["tests.fixtures.databases", "tests.fixtures.ledgers", "tests.fixtures.role_logs"]

for name in [name for name in os.environ if name.startswith("IQDB_")]:
    del os.environ[name]  # a developer's shell must not leak into the product under test

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # these machines are noisy; what is too slow is said by the timeout
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("project")

_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_ROOM: Final = 4 << 30
"""Bytes; a whole run, with a Postgres for each test process, leaves fewer than two thirds of that."""


def _keep_files_in_memory() -> None:
    """Let temporary files be in memory, where there is room.

    A disk differs from it when the power is cut, which no test does, and in what it costs a run.
    """
    is_chosen = "TMPDIR" in os.environ
    if is_chosen or not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM:
        return
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:  # Postgres may have to be run from there
        return
    os.environ["TMPDIR"] = str(_MEMORY)  # also of all processes that tests start
    tempfile.tempdir = None


_keep_files_in_memory()


def pytest_configure() -> None:
    """Leave garbage until all tests are imported: until then nothing is any."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep what is imported by now, and stays, from being looked through again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let half of the test processes begin with the tests that wait, while the others compute.

    xdist gives each process as many consecutive tests; what is left of the last ones is shared again.
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
    items[:] = [*ordered, *others]
