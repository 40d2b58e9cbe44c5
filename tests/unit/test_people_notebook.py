"""The notebook of `iqdb add`."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.roles.people.notebook import Notebook, notebook_path
from iqdb_core.errors import ConfigError
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


def test_an_id_belongs_to_one_file(tmp_path: Path) -> None:
    with Notebook(tmp_path / "files") as notebook:
        notebook.assign({"a": 1})
        notebook.added({"a": "first"})
        notebook.assign({"b": 1})
        assert notebook.known(["a", "b"]) == {"b": (1, None)}


def test_an_id_is_on_disk_before_anything_is_added_with_it(tmp_path: Path) -> None:
    path = tmp_path / "files"
    program = (
        "import os, pathlib, sys\n"
        "from api.roles.people.notebook import Notebook\n"
        "notebook = Notebook(pathlib.Path(sys.argv[1]))\n"
        "notebook.assign({'a': 17})\n"
        "os._exit(9)\n"
    )
    assert programs.run(program, path).returncode == 9
    with Notebook(path) as notebook:
        assert notebook.known(["a"]) == {"a": (17, None)}


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.roles.people.notebook._WAIT_S", 0.1)
    with Notebook(tmp_path / "files"), pytest.raises(ConfigError, match="another 'iqdb add'"):
        Notebook(tmp_path / "files")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="cannot be used"):
        Notebook(tmp_path / "files")


def test_each_database_and_server_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert notebook_path("a.sqlite", "") == Path("a.sqlite.files")
    assert notebook_path("sqlite:////data/a.sqlite", "") == Path("/data/a.sqlite.files")
    one, two = notebook_path("x", "http://one"), notebook_path("x", "http://two")
    assert one != two
    assert one.is_relative_to(tmp_path)
