"""Temporary folders: there while they are used, gone after a kill, and never those of others."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from iqdb_core.index import ImageIndex
from iqdb_core.temporary import TemporaryFolder, remove_abandoned
from tests.fixtures import programs

if TYPE_CHECKING:
    from pathlib import Path

LONG_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def killed(code: str, tmp_path: Path) -> None:
    """Run code that makes a folder and stays, and kill it."""
    code = f"{code}\nprint('made', flush=True)\nimport signal\nsignal.pause()"
    process = programs.start(code, environment={"TMPDIR": str(tmp_path)})
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    programs.end(process)


@pytest.mark.parametrize(
    "code",
    [
        "from iqdb_core.temporary import TemporaryFolder\nkept = TemporaryFolder('index')",
        "from iqdb_core.index import ImageIndex\nkept = ImageIndex.open(None, store_id='x')",
    ],
)
def test_the_next_of_its_kind_removes_what_a_killed_process_left(tmp_path: Path, code: str) -> None:
    killed(code, tmp_path)
    (left,) = tmp_path.iterdir()
    with TemporaryFolder("index"):
        assert left.exists(), "its process might still be about to lock it"
    os.utime(left, LONG_AGO)
    with TemporaryFolder("export"):
        assert left.exists()
    with TemporaryFolder("index") as folder:
        assert list(tmp_path.iterdir()) == [folder.path]
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_held_stays(tmp_path: Path) -> None:
    with ImageIndex.open(None, store_id="x"), TemporaryFolder("index"):
        held = set(tmp_path.iterdir())
        assert len(held) == 2
        for folder in held:
            os.utime(folder, LONG_AGO)
        remove_abandoned("index")
        assert set(tmp_path.iterdir()) == held


def test_links_and_files_of_such_a_name_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (tmp_path / "iqdb-index-link").symlink_to(target)
    os.utime(tmp_path / "iqdb-index-link", LONG_AGO, follow_symlinks=False)
    (tmp_path / "iqdb-index-file").write_text("mine")
    os.utime(tmp_path / "iqdb-index-file", LONG_AGO)
    inside = tmp_path / "iqdb-index-folder"
    inside.mkdir()
    (inside / "lock").symlink_to(tmp_path / "iqdb-index-file")
    os.utime(inside, LONG_AGO)
    before = sorted(tmp_path.iterdir())
    remove_abandoned("index")
    assert sorted(tmp_path.iterdir()) == before
