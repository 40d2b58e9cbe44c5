"""The commands of a person with odd names and words."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.roles.command_parts import content
from tests.fixtures import pictures
from tests.fixtures.command_line import ROOT, run, run_process
from tests.fixtures.servers import COMMAND, embedded_server

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:3]
NAMES = [os.fsdecode(b"stra\xdfe.jpg"), "a[bold][nosuch]:smile:\x1b[31m.jpg", "~odd[/red].jpg"]
CZECH = "\u0159eka.jpg"
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
        found = run("search", photo, *at, folder=folder)
        assert (found.returncode, shown in found.stdout) == (0, True), found.stderr
        assert "\x1b" not in found.stdout
        by_name = run("search", Path("pictures", name), *at, "--json", folder=folder)
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
        ended = run(*arguments, folder=folder)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
        assert ended.stderr.startswith("iqdb: ")
        assert "\x1b" not in ended.stderr


@pytest.mark.parametrize("command", ["search", "compare"])
def test_what_is_no_picture_is_told_with_what_it_is(folder: Path, command: str) -> None:
    run("add", "pictures", folder=folder)
    (folder / "a folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to("gone.jpg")
    (folder / "empty.jpg").touch()
    with (folder / "film.mp4").open("wb") as film:
        film.truncate(2**30 + 1)
    one = (PHOTOS[0],) if command == "compare" else ()
    instead = "to search among those in it, add them first: iqdb add 'a folder.jpg'"
    for name, words in (
        ("a folder.jpg", f"a folder.jpg is a folder, and one picture is wanted; {instead}"),
        ("pipe.jpg", "pipe.jpg cannot be read: it is a named pipe"),
        ("link.jpg", "link.jpg cannot be read: it is a link to nothing"),
        ("empty.jpg", "empty.jpg cannot be read: it is empty"),
        ("film.mp4", "film.mp4 cannot be read: it has 1,073,741,825 bytes; the limit is 1,073,741,824"),
        ("gone.jpg", "gone.jpg is no file that is there, and no address, hash or id"),
    ):
        ended = run(command, name, *one, folder=folder)
        assert (ended.returncode, ended.stderr) == (1, f"iqdb: {words}\n")


@contextmanager
def handed(content: bytes) -> Iterator[str]:
    """Yield the name of a pipe that gives some bytes, as a shell does for `<(...)`."""

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(to, "wb") as pipe:
            pipe.write(content)

    out, to = os.pipe()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield f"/dev/fd/{out}"
    finally:
        os.close(out)
        writer.join()


def test_a_pipe_that_the_shell_hands_over_is_read_to_an_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("add", "pictures", folder=folder)
    photo = PHOTOS[1].read_bytes()
    with handed(photo) as pipe:
        assert json.loads(run("search", pipe, "--json", folder=folder).stdout)[0]["likelihood"] > 0.99
    with handed(photo) as one, handed(photo) as other:
        assert json.loads(run("compare", one, other, "--json", folder=folder).stdout)["score"] > 99
    with handed(photo) as pipe:
        assert run("hash", pipe).stdout.split()[0] == run("hash", PHOTOS[1]).stdout.split()[0]
    monkeypatch.setattr(content, "MAX_PIPED_BYTES", 1000)
    for command in ("search", "hash"):
        with handed(photo) as pipe:
            assert "it gives more than 1,000 bytes" in run(command, pipe, folder=folder).stderr


@contextmanager
def standard_input(path: Path) -> Iterator[None]:
    """Let a file be what `<` gives to a command."""
    before, there = os.dup(0), os.open(path, os.O_RDONLY)
    os.dup2(there, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(there)


def test_standard_input_can_be_named_as_usual(folder: Path) -> None:
    """Who adds it is refused: another picture under that name would replace it, as one that has changed."""
    run("add", "pictures", folder=folder)
    with standard_input(PHOTOS[1]):
        for command in (["search", "-"], ["compare", "-", PHOTOS[1]], ["hash", "-"]):
            ended = run(*command, folder=folder)
            assert (ended.returncode, ended.stderr) == (0, ""), command
        added = run("add", "-", "/dev/fd/0", folder=folder)
        assert added.returncode == 3
        assert added.stderr.count("has no name to be known by") == 2


def test_no_device_is_read(folder: Path) -> None:
    """Some have no end."""
    ended = run("hash", "/dev/zero", folder=folder)
    assert (ended.returncode, ended.stderr) == (3, "/dev/zero: it is a device\n")


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


@pytest.fixture
def czech(tmp_path: Path) -> Path:
    """A folder with two copies of a picture, one under a name that is not ASCII, and their database."""
    for name in (CZECH, "copy.jpg"):
        shutil.copyfile(PHOTOS[0], tmp_path / name)
    assert run("add", ".", folder=tmp_path).returncode == 0
    return tmp_path


def run_with_encoding(encoding: str, *arguments: str, folder: Path, stdout: int = subprocess.PIPE) -> bytes:
    """Run a command in a Python that is told how to write, and return what it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    ended = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout or b""


@pytest.mark.parametrize("command", [("duplicates", "--format", "table"), ("search", "copy.jpg", "--json")])
def test_a_name_is_written_though_the_environment_says_ascii(czech: Path, command: tuple[str, ...]) -> None:
    assert CZECH in run_with_encoding("ascii", *command, folder=czech).decode()


def test_an_export_comes_back_whatever_the_environment_says(czech: Path) -> None:
    written = run_with_encoding("latin-1", "export", "-", folder=czech)
    assert written.decode() == run("export", "-", folder=czech).stdout
    (czech / "all.ndjson").write_bytes(written)
    added = run("add", "all.ndjson", "--db", "other.sqlite", "--json", folder=czech)
    assert json.loads(added.stdout)["added"] == 2, added.stderr


def test_a_terminal_is_written_what_it_can_show(czech: Path) -> None:
    master, terminal = os.openpty()
    with os.fdopen(master, "rb", buffering=0) as shown:
        try:
            run_with_encoding("ascii", "export", "-", folder=czech, stdout=terminal)
        finally:
            os.close(terminal)
        assert b"\\u0159eka.jpg" in shown.read(4096)
