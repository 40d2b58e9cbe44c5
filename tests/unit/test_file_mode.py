"""What a path leads to, or why that cannot be told."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from iqdb_core.file_mode import mode_of


def test_what_is_there(tmp_path: Path) -> None:
    folder, file = mode_of(tmp_path), mode_of(Path(__file__))
    assert folder is not None
    assert stat.S_ISDIR(folder)
    assert file is not None
    assert stat.S_ISREG(file)


def test_nothing_is_there(tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for path in (tmp_path / "x", Path(__file__) / "x", circle, tmp_path / "a\0b"):
        assert mode_of(path) is None


def test_what_cannot_be_told_is_not_taken_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is looked at
        mode_of(tmp_path / ("x" * 5000))
    assert refused.value.errno == errno.ENAMETOOLONG
