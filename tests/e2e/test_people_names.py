"""The commands of a person with odd names and words."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.fixtures import pictures
from tests.fixtures.command_line import run, run_process
from tests.fixtures.servers import embedded_server

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:3]
NAMES = [os.fsdecode(b"stra\xdfe.jpg"), "a[bold][nosuch]:smile:\x1b[31m.jpg", "~odd[/red].jpg"]
SHOWN = ["stra\ufffde.jpg", "a[bold][nosuch]:smile:\ufffd[31m.jpg", "~odd[/red].jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name, photo in zip(NAMES, PHOTOS, strict=True):
        place = tmp_path / "pictures" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(photo, place)
    (tmp_path / "pictures" / f"no{NAMES[0]}").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize("how", ["file", "server", "hashed here"])
def test_pictures_with_odd_names_are_added_found_and_shown(folder: Path, how: str) -> None:
    if how == "file":
        check_odd_names(folder, (), ())
        return
    with embedded_server(folder / "served.sqlite") as server:
        at = ("--url", str(server.client.base_url))
        check_odd_names(folder, at, ("--hash-here",) if how == "hashed here" else ())


def check_odd_names(folder: Path, at: tuple[str, ...], how: tuple[str, ...]) -> None:
    state = {"XDG_STATE_HOME": str(folder / "state")}
    first = run_process("add", "pictures", *at, *how, folder=folder, environment=state)
    assert (first.returncode, "added 3, 0 were there" in first.stderr) == (3, True), first.stderr
    again = run_process("add", "pictures", *at, *how, "--json", folder=folder, environment=state)
    told = json.loads(again.stdout)
    assert (told["added"], told["unchanged"]) == (0, 3)
    assert os.fsencode(told["refused"][0]["file"]).endswith(b"nostra\xdfe.jpg"), "bytes of a name are kept"
    for name, shown, photo in zip(NAMES, SHOWN, PHOTOS, strict=True):
        found = run_process("search", photo, *at, folder=folder)
        assert (found.returncode, shown in found.stdout) == (0, True), found.stderr
        assert "\x1b" not in found.stdout
        by_name = run_process("search", Path("pictures", name), *at, "--json", folder=folder)
        assert json.loads(by_name.stdout)[0]["source"].replace("\x1b", "\ufffd").endswith(shown)


def test_hashes_of_pictures_with_odd_names_are_told(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    ended = run_process("hash", *(Path("pictures", name) for name in NAMES), "pipe.jpg", folder=folder)
    assert ended.returncode == 3, ended.stderr
    assert [line.partition("  ")[2] for line in ended.stdout.splitlines()] == [
        f"pictures/{shown}" for shown in SHOWN
    ]
    assert "pipe.jpg: it is a named pipe" in ended.stderr


def test_a_hash_is_searched_for_and_compared(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    line = run("hash", PHOTOS[1], folder=folder).stdout.split()[0]
    for text in (line, line.removeprefix("iqdb_")):
        found = run("search", text, "--json", folder=folder)
        assert json.loads(found.stdout)[0]["likelihood"] > 0.99, found.stderr
        same = run("compare", text, PHOTOS[1], "--json", folder=folder)
        assert json.loads(same.stdout)["score"] > 99, same.stderr


@pytest.mark.parametrize(
    "word",
    [
        "x" * 300,
        "x" * 5000,
        "http://127.0.0.1:9/" + "x" * 300,
        "iqdb_" + "f" * 528,
        "~nobody-of-this-name",
        "\x1b[31m[/red]",
        os.fsdecode(b"stra\xdfe"),
    ],
)
def test_any_word_is_answered_with_a_sentence(folder: Path, word: str) -> None:
    run("add", "pictures", folder=folder)
    for arguments in (("search", word), ("compare", word, PHOTOS[0]), ("add", word)):
        ended = run_process(*arguments, folder=folder)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
        assert ended.stderr.startswith("iqdb: ")
        assert "\x1b" not in ended.stderr


def test_a_picture_that_may_not_be_read_is_told(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    (folder / "picture.jpg").mkdir()
    ended = run("search", "picture.jpg", folder=folder)
    assert (ended.returncode, "no file that is there" in ended.stderr) == (1, True)


def test_an_export_comes_back_as_a_list(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    with sqlite3.connect(folder / "iqdb.sqlite") as connection:
        connection.execute("DELETE FROM iqdb_sources WHERE post_id = 2")
    before = run("export", "-", folder=folder).stdout
    for name in ("all.ndjson", "all.csv"):
        assert run("export", name, folder=folder).returncode == 0
        at = ("--db", f"{name}.sqlite")
        added = run("add", name, *at, "--json", folder=folder)
        assert json.loads(added.stdout)["added"] == 3, added.stderr
        assert run("export", "-", *at, folder=folder).stdout == before
        again = run("add", name, *at, "--json", folder=folder)
        assert json.loads(again.stdout)["unchanged"] == 3
    with embedded_server(folder / "served.sqlite") as server:
        url = ("--url", str(server.client.base_url))
        state = {"XDG_STATE_HOME": str(folder / "state")}
        (folder / "mixed.ndjson").write_text(before + json.dumps({"id": 9, "file": str(PHOTOS[0])}) + "\n")
        added = run("add", "mixed.ndjson", *url, "--json", folder=folder, environment=state)
        assert json.loads(added.stdout)["added"] == 4, added.stderr
        assert before in server.client.get("/export").text.replace('":', '": ').replace(',"', ', "')
