"""`iqdb add` run again where nothing tells any more what it added."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.command_line import run
from tests.fixtures.servers import embedded_server

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:6]
ODD = os.fsdecode(b"\xff.jpg")


def add(folder: Path, *arguments: object) -> Any:
    state = {"XDG_STATE_HOME": str(folder / "state")}
    ended = run("add", *arguments, "--json", folder=folder, environment=state)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    return told["added"], told["unchanged"]


def images(database: Path) -> dict[int, str | None]:
    store = open_store(str(database))
    listed = {one.image_id: one.source for one in store.ids_after(-1, 1000)}
    store.close()
    return listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures in a folder, one with a name that is not UTF-8, and one in an archive; all are added."""
    (tmp_path / "pictures").mkdir()
    for number, photo in enumerate(PHOTOS[:5]):
        shutil.copyfile(photo, tmp_path / "pictures" / f"{number}.jpg")
    shutil.copyfile(PHOTOS[0], tmp_path / "pictures" / ODD)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(PHOTOS[5], "member.jpg")
    assert add(tmp_path, "pictures", "all.tar") == (7, 0)
    return tmp_path


@pytest.mark.parametrize("what", ["notebook lost", "database moved", "backup restored"])
def test_nothing_is_there_twice_without_the_notebook(folder: Path, what: str) -> None:
    database = folder / "iqdb.sqlite"
    before = images(database)
    at: tuple[object, ...] = ()
    match what:
        case "notebook lost":
            (folder / "iqdb.sqlite.files").unlink()
        case "database moved":
            database = database.rename(folder / "moved.sqlite")
            at = ("--db", database)
        case "backup restored":
            assert run("backup", "copy.sqlite", folder=folder).returncode == 0
            database = folder / "copy.sqlite"
            at = ("--db", database)
    assert add(folder, "pictures", "all.tar", *at) == (0, 7)
    assert images(database) == before
    shutil.copyfile(PHOTOS[5], folder / "pictures" / "new.jpg")
    assert add(folder, "pictures", *at) == (1, 6), "and it is in the notebook again"
    assert set(images(database)) == {*before, max(before) + 1}


@pytest.mark.parametrize("how", [(), ("--hash-here",)])
def test_nothing_is_there_twice_by_another_way(folder: Path, how: tuple[str, ...]) -> None:
    database = folder / "iqdb.sqlite"
    before = images(database)
    shutil.copyfile(PHOTOS[5], folder / "pictures" / "new.jpg")
    with embedded_server(database) as server:
        url = ("--url", server.client.base_url, *how)
        assert add(folder, "pictures", "all.tar", *url) == (1, 7)
        assert add(folder, "pictures", "all.tar", *url) == (0, 8)
    assert add(folder, "pictures", "all.tar") == (0, 8)
    assert set(images(database)) == {*before, max(before) + 1}


def test_the_image_of_another_machine_with_such_a_path_stays(folder: Path) -> None:
    database = folder / "iqdb.sqlite"
    before = images(database)
    hashes = run("export", "-", folder=folder).stdout.splitlines()
    (folder / "iqdb.sqlite.files").unlink()
    shutil.copyfile(PHOTOS[5], folder / "pictures" / "1.jpg")
    assert add(folder, "pictures") == (1, 5)
    after = images(database)
    assert set(after) == {*before, max(before) + 1}
    assert after[max(after)] == str(folder / "pictures" / "1.jpg")
    assert run("export", "-", folder=folder).stdout.splitlines()[:-1] == hashes


def test_a_file_of_a_list_is_not_added_once_more_by_its_folder(folder: Path) -> None:
    (folder / "other").mkdir()
    shutil.copyfile(PHOTOS[5], folder / "other" / "a.jpg")
    (folder / "list.csv").write_text("id,file\n500,other/a.jpg\n")
    assert add(folder, "list.csv") == (1, 0)
    assert add(folder, "other") == (0, 1)
    assert add(folder, "list.csv") == (0, 1)
    assert add(folder, "other") == (0, 1)
