"""What several contract suites start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fixtures.stores import IqdbFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an SQLite file of the test goes."""
    return tmp_path / "iqdb.sqlite"


@pytest.fixture
def iqdb(path: Path) -> IqdbFile:
    """An empty file as IQDB leaves it."""
    return IqdbFile(path).create()
