"""The folder of pictures: files below it are found, and nothing else is ever shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.pictures.folder import PictureFolder
from iqdb_core.errors import WrongUsage


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    """A folder `shown` with files, links and a pipe; beside it `hidden`."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "secret.jpg").write_bytes(b"secret")
    shown = tmp_path / "shown"
    (shown / "deep").mkdir(parents=True)
    (shown / "deep" / "a b.jpg").write_bytes(b"picture")
    (shown / "inside.jpg").symlink_to(shown / "deep" / "a b.jpg")
    (shown / "outside.jpg").symlink_to(tmp_path / "hidden" / "secret.jpg")
    (shown / "way out").symlink_to(tmp_path / "hidden")
    (shown / "circle").symlink_to(shown / "circle")
    os.mkfifo(shown / "pipe.jpg")
    return PictureFolder(shown)


@pytest.mark.parametrize(
    "name", ["deep/a b.jpg", "{}/deep/a b.jpg", "file://{}/deep/a%20b.jpg", "inside.jpg"]
)
def test_a_file_below_the_folder_is_found(folder: PictureFolder, tmp_path: Path, name: str) -> None:
    found = folder.find(name.format(tmp_path / "shown"))
    assert found is not None
    assert found.path == tmp_path.resolve() / "shown" / "deep" / "a b.jpg"
    assert folder.read(found) == b"picture"


@pytest.mark.parametrize(
    "name",
    [
        "{}/hidden/secret.jpg",
        "../hidden/secret.jpg",
        "deep/../../hidden/secret.jpg",
        "outside.jpg",
        "way out/secret.jpg",
        "file://{}/hidden/secret.jpg",
        "circle",
        "pipe.jpg",
        "deep",
        "",
        "missing.jpg",
        "zero\0.jpg",
        "a" * 2000,
        "https://example.org/deep/a b.jpg",
        "/etc/passwd",
        "\ud800",
    ],
)
def test_nothing_else_is_ever_shown(folder: PictureFolder, tmp_path: Path, name: str) -> None:
    assert folder.find(name.format(tmp_path)) is None


def test_a_file_that_became_another_is_not_read(folder: PictureFolder, tmp_path: Path) -> None:
    found = folder.find("deep/a b.jpg")
    assert found is not None
    file = tmp_path / "shown" / "deep" / "a b.jpg"
    file.unlink()
    file.symlink_to(tmp_path / "hidden" / "secret.jpg")
    assert folder.read(found) is None
    file.unlink()
    assert folder.read(found) is None
    (tmp_path / "hidden" / "a b.jpg").write_bytes(b"picture")
    (tmp_path / "shown" / "deep").rmdir()
    (tmp_path / "shown" / "deep").symlink_to(tmp_path / "hidden")
    os.utime(tmp_path / "hidden" / "a b.jpg", ns=(found.changed_ns, found.changed_ns))
    assert folder.read(found) is None


@pytest.mark.parametrize("name", ["missing", "file", "circle", "n" * 300, "\0"])
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(WrongUsage, match="--pictures is a folder"):
        PictureFolder(tmp_path / name)


def test_the_files_of_the_database_are_not_opened(tmp_path: Path) -> None:
    """SQLite's locks of a file are gone when any descriptor of it is closed."""
    database = tmp_path / "real.sqlite"
    for end in ("", "-wal", "-shm"):
        Path(f"{database}{end}").write_bytes(b"x")
    (tmp_path / "link.sqlite").symlink_to(database)
    (tmp_path / "a.jpg").write_bytes(b"picture")
    for name in (database, tmp_path / "link.sqlite"):
        folder = PictureFolder(tmp_path, name)
        for shown in ("real.sqlite", "real.sqlite-wal", "real.sqlite-shm", "link.sqlite"):
            assert folder.find(shown) is None, shown
        assert folder.find("a.jpg") is not None
