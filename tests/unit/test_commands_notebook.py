"""The notebook of `iqdb add`."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from api.roles.command_parts.notebook import Notebook, notebook_path
from iqdb_core.errors import ConfigError, StoreUnavailable
from tests.fixtures import programs


def test_ids_and_versions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "iqdb.sqlite.files"
    with Notebook(path) as notebook:
        assert notebook.largest_id() == -1
        notebook.assign({"a": 1, "b": 2})
        notebook.added({"a": "first"})
    with Notebook(path) as notebook:
        assert notebook.known(["a", "b", "c"]) == {"a": (1, "first"), "b": (2, None)}
        assert notebook.largest_id() == 2


def test_who_may_write_to_the_database_may_write_to_its_notebook(tmp_path: Path) -> None:
    """Where root was the first to add a folder to the database of a server, too."""
    database, path = tmp_path / "iqdb.sqlite", tmp_path / "iqdb.sqlite.files"
    database.touch()
    database.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(database, 65534, 65533)
    Notebook(path).__exit__()
    expected, found = database.stat(), path.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (
        expected.st_mode,
        expected.st_uid,
        expected.st_gid,
    )


def test_an_id_belongs_to_one_file(tmp_path: Path) -> None:
    with Notebook(tmp_path / "files") as notebook:
        notebook.assign({"a": 1})
        notebook.added({"a": "first"})
        notebook.assign({"b": 1})
        assert notebook.known(["a", "b"]) == {"b": (1, None)}


def test_what_is_of_another_store_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "files"
    with Notebook(path) as notebook:
        notebook.assign({"a": 1})
        notebook.belong_to("first")
        assert notebook.known(["a"]) == {"a": (1, None)}, "it was written down before any was named"
    with Notebook(path) as notebook:
        notebook.belong_to("first")
        assert notebook.known(["a"]) == {"a": (1, None)}
        notebook.belong_to("second")
        assert (notebook.known(["a"]), notebook.largest_id()) == ({}, -1)
        notebook.assign({"b": 1})
    with Notebook(path) as notebook:
        notebook.belong_to("second")
        assert notebook.known(["b"]) == {"b": (1, None)}


def test_an_id_is_on_disk_before_anything_is_added_with_it(tmp_path: Path) -> None:
    path = tmp_path / "files"
    program = (
        "import os, pathlib, sys\n"
        "from api.roles.command_parts.notebook import Notebook\n"
        "notebook = Notebook(pathlib.Path(sys.argv[1]))\n"
        "notebook.assign({'a': 17})\n"
        "os._exit(9)\n"
    )
    assert programs.run(program, path).returncode == 9
    with Notebook(path) as notebook:
        assert notebook.known(["a"]) == {"a": (17, None)}


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.roles.command_parts.notebook._WAIT_S", 0.1)
    with Notebook(tmp_path / "files"), pytest.raises(ConfigError, match="another 'iqdb add'"):
        Notebook(tmp_path / "files")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="cannot be used"):
        Notebook(tmp_path / "files")


def test_a_database_of_others_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "files")) as connection:
        connection.execute("CREATE TABLE files (name TEXT)")
    with pytest.raises(ConfigError, match="a file of another program"):
        Notebook(tmp_path / "files")


@pytest.mark.parametrize("place", ["file/deep/files", "folder", "/proc/nothing/files"])
def test_a_place_where_none_can_be_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be opened: ") as caught:
        Notebook(tmp_path / place)
    assert str(caught.value).startswith(f"{tmp_path / place}, where ")
    assert "XDG_STATE_HOME" in str(caught.value)


def test_a_full_disk_is_told_and_gone_on_after(tmp_path: Path) -> None:
    program = """
        import pathlib, resource, sys
        from api.roles.command_parts.notebook import Notebook
        from iqdb_core.errors import StoreUnavailable
        notebook = Notebook(pathlib.Path(sys.argv[1]))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            notebook.assign({f"{number:0500}": number for number in range(20_000)})
        except StoreUnavailable as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        notebook.assign({"a": 17})
    """
    ended = programs.run(program, tmp_path / "files")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{tmp_path / 'files'}, where 'iqdb add' notes")
    assert "cannot be written: " in ended.stdout
    with Notebook(tmp_path / "files") as notebook:
        assert notebook.known(["a", f"{0:0500}"]) == {"a": (17, None)}


def test_one_that_is_damaged_inside_is_told(tmp_path: Path) -> None:
    path = tmp_path / "files"
    keys = {f"{number:0500}": number for number in range(1000)}
    with Notebook(path) as notebook:
        notebook.assign(keys)
    whole = path.read_bytes()
    path.write_bytes(whole[:16_384] + b"\xff" * (len(whole) - 16_384))
    with Notebook(path) as notebook, pytest.raises(StoreUnavailable, match="cannot be read: "):
        notebook.known(list(keys))


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "~nobody-of-this-name")  # what is found for a user who is in no list
    with pytest.raises(ConfigError, match="XDG_STATE_HOME"):
        notebook_path("x", "http://one")


def test_each_database_and_server_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert notebook_path("a.sqlite", "") == Path("a.sqlite.files").absolute()
    assert notebook_path("sqlite:////data/a.sqlite", "") == Path("/data/a.sqlite.files")
    one, two = notebook_path("x", "http://one"), notebook_path("x", "http://two")
    assert one != two
    assert one.is_relative_to(tmp_path)
