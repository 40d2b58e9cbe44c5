"""Folders that may not be entered, and names that are too long: each command says so in a sentence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fixtures import programs
from tests.fixtures.command_line import run

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = """
    import os, sys
    from api.roles.cli import main
    from tests.fixtures.rights import drop_capabilities

    os.chdir(sys.argv[1])
    drop_capabilities()
    main([word.replace("FOLDER", "shut") for word in sys.argv[2:]])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database, and a folder in it that nobody may enter."""
    assert run("upgrade", "--db", "iqdb.sqlite", folder=tmp_path).returncode == 0
    shut = tmp_path / "shut"
    shut.mkdir()
    (shut / "a.sqlite").touch()
    (shut / "a.jpg").touch()
    shut.chmod(0o444)
    if os.geteuid() == 0:
        os.chown(shut, 65534, -1)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("status", "--db", "FOLDER/a.sqlite"), "the database shut/a.sqlite cannot be opened"),
        (("status", "--db", "FOLDER/there/a.sqlite"), "the database shut/there/a.sqlite cannot be opened"),
        (("add", "iqdb.sqlite", "--db", "FOLDER/new.sqlite"), "shut/new.sqlite cannot be opened"),
        (("upgrade", "--db", "FOLDER/a.sqlite"), "shut/a.sqlite cannot be opened"),
        (("migrate", "iqdb.sqlite", "FOLDER/new.sqlite"), "shut/new.sqlite cannot be opened"),
        (("http", "127.0.0.1", "0", "FOLDER/a.sqlite"), "shut/a.sqlite cannot be opened"),
        (("backup", "FOLDER/new.sqlite"), "new.sqlite cannot be written"),
        (("export", "FOLDER/new.csv"), "new.csv cannot be written"),
        (("export", "FOLDER/there/new.db"), "new.db cannot be written"),
        (("search", "FOLDER/a.jpg"), "shut/a.jpg cannot be read"),
    ],
)
def test_a_folder_that_may_not_be_entered_is_told(folder: Path, command: tuple[str, ...], words: str) -> None:
    ended = programs.run(COMMAND, folder, *command)
    said = ended.stderr.splitlines()
    assert ended.returncode == 1, ended.stderr
    assert words in said[-1]
    assert "Permission denied" in said[-1]
    assert "[Errno" not in said[-1]
    assert "Traceback" not in ended.stderr


def test_what_a_pattern_finds_in_such_a_folder_is_listed(folder: Path) -> None:
    ended = programs.run(COMMAND, folder, "add", "FOLDER/*.jpg", "FOLDER/*.gif", "iqdb.sqlite")
    assert "nothing matches shut/*.gif" in ended.stderr
    ended = programs.run(COMMAND, folder, "add", "FOLDER/*.jpg")
    assert ended.returncode == 3, ended.stderr
    assert "shut/a.jpg: Permission denied" in ended.stderr


def test_files_and_folders_are_named_alike(folder: Path) -> None:
    (folder / "shut").chmod(0)
    (folder / "listed" / "within").mkdir(parents=True)
    (folder / "listed").chmod(0o444)
    (folder / "none.jpg").write_text("none")
    ended = programs.run(COMMAND, folder, "add", ".", "FOLDER/a.jpg")
    assert ended.returncode == 3, ended.stderr
    for name in ("shut", "shut/a.jpg", "listed/within"):
        assert f"  {folder}/{name}: Permission denied" in ended.stderr
    assert f"  {folder}/none.jpg: this is not an image" in ended.stderr


@pytest.mark.parametrize("length", [245, 250, 251, 255, 256])
@pytest.mark.parametrize("ending", [".csv", ".db"])
def test_a_name_is_written_to_or_said_to_be_too_long(tmp_path: Path, length: int, ending: str) -> None:
    assert run("upgrade", folder=tmp_path).returncode == 0
    name = "x" * (length - len(ending)) + ending
    for command in ("export", "backup"):
        ended = run(command, name, folder=tmp_path)
        is_there = (tmp_path / name).exists() if length <= 255 else False
        assert ended.returncode == (0 if is_there else 1), ended.stderr
        assert ended.stderr.startswith(
            (f"wrote 0 images to {name}", f"{name} holds 0", f"iqdb: {name} cannot")
        )
        if is_there:
            (tmp_path / name).unlink()
    assert {found.name for found in tmp_path.iterdir()} <= {"iqdb.sqlite"}
