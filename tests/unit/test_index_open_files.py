"""Open files: a bounded number, none closed under a reader."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iqdb_core.index.disk.open_files import OpenFiles


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / str(number) for number in range(20)]
    for path in made:
        path.write_text(path.name)
    return made


def open_here() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def content(files: OpenFiles, path: Path) -> str:
    with files.reading(path) as fd:
        return os.pread(fd, 100, 0).decode()


def test_no_more_are_open_than_were_asked_for(paths: list[Path]) -> None:
    files = OpenFiles(3)
    before = open_here()
    for _ in range(2):
        assert [content(files, path) for path in paths] == [path.name for path in paths]
        assert len(files) == 3
    assert open_here() == before + 3
    files.close()
    assert open_here() == before
    assert content(files, paths[0]) == "0"


def test_a_file_is_not_closed_while_it_is_read(paths: list[Path]) -> None:
    files = OpenFiles(1)
    with files.reading(paths[0]) as fd:
        assert content(files, paths[1]) == "1"
        files.drop(paths[0])
        paths[0].unlink()
        assert os.pread(fd, 1, 0) == b"0"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(FileNotFoundError):
        content(files, paths[0])


def test_concurrent_reads_get_the_right_files(paths: list[Path]) -> None:
    files = OpenFiles(2)
    start = threading.Barrier(8)

    def read(first: int) -> bool:
        start.wait()
        return all(
            content(files, paths[(first + step) % 20]) == str((first + step) % 20) for step in range(500)
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))
    assert len(files) <= 2
