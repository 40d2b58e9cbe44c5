"""A place for compiled code is found without a home, and one that others could have written is not taken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import iqdb_core
from iqdb_core import cache_folder
from tests.fixtures.waiting import wait_until


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_temporary_folder_is_made_for_this_user_alone(temporary: Path) -> None:
    folder = cache_folder.private_temporary_folder()
    assert folder is not None
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache_folder.private_temporary_folder() == folder


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o720])
def test_a_folder_that_others_may_write_or_read_is_not_taken(temporary: Path, mode: int) -> None:
    folder = temporary / f"iqdb-kernels-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(mode)
    assert cache_folder.private_temporary_folder() is None


def test_a_link_or_a_file_in_its_place_is_not_taken(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place = temporary / f"iqdb-kernels-{os.geteuid()}"
    place.symlink_to(elsewhere)
    assert cache_folder.private_temporary_folder() is None
    place.unlink()
    place.touch()
    assert cache_folder.private_temporary_folder() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_someone_else_is_not_taken(temporary: Path) -> None:
    folder = temporary / f"iqdb-kernels-{os.geteuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    assert cache_folder.private_temporary_folder() is None


def test_compiled_parts_are_remembered_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert not cache_folder.is_kept("query")
    cache_folder.mark_kept("query")
    assert cache_folder.is_kept("query")
    assert not cache_folder.is_kept("segment")
    monkeypatch.setattr(cache_folder, "_fingerprint", lambda: "other")
    assert not cache_folder.is_kept("query")
    cache_folder.mark_kept("query")
    assert len(list((tmp_path / "cache").iterdir())) == 1, "the outdated mark is gone"


def test_compiled_parts_are_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for part in ("query", "segment", "signature"):
        cache_folder.mark_kept(part)
    before = set(tmp_path.iterdir())
    subprocess.run([sys.executable, "-m", "iqdb_core.compiling"], check=True)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not tell who waits for a lock")
def test_of_processes_that_start_together_one_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with cache_folder.compiling_lock("signature"):
        other = subprocess.Popen([sys.executable, "-m", "iqdb_core.compiling", "signature"])
        waiting = re.compile(rf"-> FLOCK.* {other.pid} ")
        wait_until(lambda: waiting.search(Path("/proc/locks").read_text()), 60)
        before = set(tmp_path.iterdir())
        cache_folder.mark_kept("signature")
    assert other.wait(60) == 0
    assert {path.suffix for path in set(tmp_path.iterdir()) - before} == {".kept"}


def test_where_no_lock_can_be_had_each_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    with cache_folder.compiling_lock("query"), cache_folder.compiling_lock("query"):
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_nowhere_to_keep_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert not cache_folder.can_keep()
    cache_folder.mark_kept("query")
    assert not cache_folder.is_kept("query")


COUNT = """
import tempfile
tempfile.tempdir = {temporary!r}
import numpy as np
from iqdb_core.index.segment.buckets import is_repeat

assert is_repeat.stats.cache_path.startswith(tempfile.tempdir), is_repeat.stats.cache_path
assert not is_repeat(np.array([1, 2, 3], dtype=np.int16), 2)
print(sum(is_repeat.stats.cache_hits.values()))
"""


def test_a_service_without_a_home_compiles_once(tmp_path: Path) -> None:
    """As a system user has it: a program that it may not write to, no home, only temporary files."""
    library, temporary = tmp_path / "iqdb_core", tmp_path / "temporary"
    shutil.copytree(Path(iqdb_core.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
    temporary.mkdir()
    for folder in (library, *(path for path in library.rglob("*") if path.is_dir())):
        (folder / "__pycache__").touch()  # stops root, too, who may write to what is read-only
    no_folder = str(library / "__pycache__")
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": no_folder, "HOME": no_folder}
    for hits in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", COUNT.format(temporary=str(temporary))],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == hits, done.stderr


def test_a_place_that_cannot_be_looked_at_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "NUMBA_CACHE_DIR", "x" * 300
    )  # as little to be entered as a closed folder, for root too
    assert not cache_folder.is_kept("query")
    cache_folder.mark_kept("query")
    assert not cache_folder.can_keep()
