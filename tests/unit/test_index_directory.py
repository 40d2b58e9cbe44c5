"""The directory: one owner, numbers that are never used twice, leftovers."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.directory import IndexDirectory
from iqdb_core.index.disk.open_files import OpenFiles
from tests.fixtures import programs

if TYPE_CHECKING:
    from pathlib import Path


def test_second_owner_in_this_process_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = IndexDirectory(tmp_path)
    with pytest.raises(IndexStateError, match=f"in use by process {os.getpid()}"):
        IndexDirectory(tmp_path)
    first.close()
    first.close()
    IndexDirectory(tmp_path).close()


def test_another_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "from iqdb_core.index.disk.directory import IndexDirectory\n"
        "kept = IndexDirectory(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "signal.pause()\n"
    )
    owner = programs.start(code, tmp_path)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "open\n"
    with pytest.raises(IndexStateError, match=f"in use by process {owner.pid}"):
        IndexDirectory(tmp_path)
    programs.end(owner)
    IndexDirectory(tmp_path).close()


def test_a_full_disk_does_not_prevent_opening_and_failures_release_the_lock(tmp_path: Path) -> None:
    script = """
        import os, resource, sys
        from pathlib import Path
        from iqdb_core.index.disk.directory import IndexDirectory

        path, open_files = Path(sys.argv[1]), lambda: len(os.listdir("/proc/self/fd"))
        before, most = open_files(), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most[1]))
        IndexDirectory(path).close()
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        list_names, IndexDirectory._names = IndexDirectory._names, lambda self: os.listdir("/nowhere")
        try:
            IndexDirectory(path)
        except OSError:
            print(open_files() - before)
        IndexDirectory._names = list_names
        IndexDirectory(path).close()
    """
    result = programs.run(script, tmp_path)
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr


class ReadJustAfter(OpenFiles):
    """Open files of which one is read as soon as it is dropped, as by a query on an older snapshot."""

    def drop(self, path: Path) -> None:
        super().drop(path)
        with suppress(FileNotFoundError), self.reading(path):
            pass


def test_nothing_that_is_removed_stays_open(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path)
    directory.files = ReadJustAfter()
    directory.rows(7).write_bytes(b"rows")
    with directory.files.reading(directory.rows(7)):
        directory.remove([7])
    assert len(directory.files) == 0
    directory.close()


def test_numbers_go_on_behind_those_of_any_file(tmp_path: Path) -> None:
    for name in ("00000007.rows", "00000041.words.new", "99.rows", "123456789012.words"):
        (tmp_path / name).touch()
    directory = IndexDirectory(tmp_path)
    assert [directory.next_number(), directory.next_number()] == [123456789013, 123456789014]
    directory.close()


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    keep = {"00000003.rows", "00000003.words", "manifest", "note.txt", "3.rows"}
    gone = {"00000003.words.new", "00000004.rows", "00000004.words", "manifest.new"}
    for name in keep | gone:
        (tmp_path / name).touch()
    directory = IndexDirectory(tmp_path)
    directory.remove_leftovers({3})
    assert {path.name for path in tmp_path.iterdir()} == keep | {"lock"}
    directory.remove([3, 5])
    assert {path.name for path in tmp_path.iterdir()} == {"manifest", "note.txt", "3.rows", "lock"}
    directory.close()


def test_refused_files_replace_those_refused_before(tmp_path: Path) -> None:
    directory = IndexDirectory(tmp_path)
    for content in ("old", "new"):
        (tmp_path / "manifest").write_text(content)
        (tmp_path / f"0000000{len(content)}.rows").touch()
        directory.set_aside()
    assert not directory.manifest.exists()
    assert (tmp_path / "refused" / "manifest").read_text() == "new"
    directory.forget_refused()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    directory.close()


def test_temporary_directory_goes_with_its_owner() -> None:
    directory = IndexDirectory(None)
    directory.rows(directory.next_number()).touch()
    assert directory.path.is_dir()
    directory.close()
    assert not directory.path.exists()
