"""`iqdb add` with archives, lists and places that are not as they should be: told, and the rest goes in."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sqlite3
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from iqdb_core.duplicates import MAX_GROUP
from iqdb_core.model import Write
from iqdb_core.signature import read_image
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.command_line import Running, run, run_process
from tests.fixtures.servers import embedded_server
from tests.fixtures.stores import signature
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:2]
MANY = "9" * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    for name, photo in zip(("a.jpg", "good.jpg"), PHOTOS, strict=True):
        shutil.copyfile(photo, tmp_path / name)
    return tmp_path


def pack(folder: Path, headers: Mapping[str, str]) -> None:
    """Make an archive of one picture with an extended header."""
    content = (folder / "a.jpg").read_bytes()
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("a.jpg")
        header.size = len(content)
        header.pax_headers = dict(headers)
        archive.addfile(header, io.BytesIO(content))


@pytest.mark.parametrize(
    ("headers", "added"),
    [
        ({"size": MANY}, 1),
        ({"mtime": "nan"}, 2),
        ({"path": "x\0y.jpg"}, 2),
    ],
)
def test_what_comes_after_a_strange_archive_goes_in(
    folder: Path, headers: Mapping[str, str], added: int
) -> None:
    pack(folder, headers)
    for run_added, unchanged in ((added, 0), (0, added)):
        ended = run("add", "a.tar", "good.jpg", "--json", folder=folder)
        assert ended.returncode == (0 if added == 2 else 3), ended.stderr
        told = json.loads(ended.stdout)
        assert (told["added"], told["unchanged"]) == (run_added, unchanged)


def test_a_signal_ends_what_takes_long_to_read_over(folder: Path) -> None:
    with (folder / "a.tar").open("wb") as archive:
        for number in range(16):
            content = pictures.picture(number, (40, 30))
            header = tarfile.TarInfo(f"{number}.png")
            header.size = len(content)
            archive.write(header.tobuf() + content.ljust(-(-len(content) // 512) * 512, b"\0"))
        large = tarfile.TarInfo("large.jpg")
        large.size = 1 << 42
        archive.write(large.tobuf(tarfile.GNU_FORMAT))
    os.truncate(folder / "a.tar", 1 << 42)  # a hole, which takes an hour to read

    def count() -> int:
        with closing(sqlite3.connect(folder / "iqdb.sqlite")) as connection:
            return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])

    with Running("add", "a.tar", folder=folder) as started:
        notebook = folder / "iqdb.sqlite.files"
        wait_until(lambda: started.poll() is not None or (notebook.exists() and count() == 16), 100)
        started.send_signal(signal.SIGTERM)
        code, errors = started.wait_end(), started.errors()
    assert (code, "Traceback" in errors) == (130, False), errors
    assert "added 16" in errors
    assert "cannot be read to its end" not in errors


@pytest.mark.parametrize(
    ("place", "options"),
    [("/proc/nothing", ("--url", "http://127.0.0.1:9")), ("n.sqlite.files", ("--db", "n.sqlite"))],
)
def test_where_nothing_can_be_noted_is_named(folder: Path, place: str, options: tuple[str, ...]) -> None:
    (folder / "n.sqlite.files").mkdir()
    ended = run("add", "a.jpg", *options, folder=folder, environment={"XDG_STATE_HOME": "/proc/nothing"})
    assert ended.returncode == 1
    (reason,) = [line for line in ended.stderr.splitlines() if line.startswith("iqdb: ")]
    assert place in reason
    assert "cannot be opened" in reason


def test_a_list_that_is_no_json_is_told(folder: Path) -> None:
    (folder / "list.ndjson").write_text("[" * 100_000)
    ended = run("add", "list.ndjson", folder=folder)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "iqdb: list.ndjson, line 1: not JSON")


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_duplicates_on_a_full_disk_are_told(folder: Path, form: str) -> None:
    shutil.copyfile(folder / "a.jpg", folder / "b.jpg")
    assert run("add", ".", folder=folder).returncode == 0
    ended = run("duplicates", "--format", form, "--output", "/dev/full", folder=folder)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "iqdb: /dev/full cannot be written: No space left on device"


def test_a_group_that_is_told_in_part_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "iqdb.sqlite"))
    store.apply([Write(number, 1, signature(1)) for number in range(MAX_GROUP + 2)])
    store.close()
    ended = run("duplicates", "--format", "ndjson", folder=tmp_path)
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [one["truncated"] for one in told if len(one["images"]) == MAX_GROUP] == [True]
    assert "not all images are told of " in ended.stderr


@pytest.mark.parametrize(
    "words", [("add",), ("hash",), ("search",), ("compare", "good.jpg"), ("export",), ("backup",)]
)
def test_an_empty_argument_is_refused(folder: Path, words: tuple[str, ...]) -> None:
    ended = run(*words, "", folder=folder)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "iqdb: an argument is empty; if it is a variable, it is not set\n"
    assert {found.name for found in folder.iterdir()} == {"a.jpg", "good.jpg"}


def test_standard_output_is_no_file_of_that_name(folder: Path) -> None:
    shutil.copyfile(folder / "a.jpg", folder / "b.jpg")
    run("add", ".", folder=folder)
    written = run("duplicates", "-o", "-", "--format", "csv", folder=folder)
    assert written.stdout.splitlines()[0] == "group,post_id,likelihood,source"
    ended = run("backup", "-", folder=folder)
    assert ended.stderr == "iqdb: a backup cannot be written to standard output\n"
    assert not (folder / "-").exists()


@pytest.mark.parametrize("command", ["export", "backup"])
def test_a_place_that_is_a_folder_is_named(folder: Path, command: str) -> None:
    run("add", "a.jpg", folder=folder)
    for place in (".", ".."):
        assert run(command, place, folder=folder).stderr == f"iqdb: {place} exists already\n"


@pytest.fixture
def browser(tmp_path: Path) -> dict[str, str]:
    """An environment with a browser that notes what it is told to open."""
    (tmp_path / "browser.sh").write_text(f"""#!/bin/sh\nprintf '%s\\n' "$@" >> '{tmp_path}/opened'\n""")
    (tmp_path / "browser.sh").chmod(0o755)
    return {"BROWSER": str(tmp_path / "browser.sh")}


def opened(folder: Path) -> list[str]:
    """Return what the browser was told to open."""
    noted = folder / "opened"
    return noted.read_text().splitlines() if noted.exists() else []


NOTHING_TO_OPEN = [
    *("--new-instance", "-profile=/tmp/x", "javascript:alert(1)", "smb://evil/x", "file:///etc/passwd"),
    *("a.jpg", "/usr/nothing.tar!a.jpg", "/usr"),
]


def test_only_addresses_of_the_web_and_files_are_opened(folder: Path, browser: dict[str, str]) -> None:
    page, known = "https://example.org/posts/7?a=b", str(folder / "good.jpg")
    picture = read_image((folder / "a.jpg").read_bytes()).signature
    for revision, source in enumerate([page, known, *NOTHING_TO_OPEN], 1):
        store = open_store(str(folder / "iqdb.sqlite"))
        store.apply([Write(1, revision, picture, source=source)])
        store.close()
        is_opened = source in {page, known}
        start = run_process if is_opened else run  # Python reads BROWSER once
        ended = start("search", "a.jpg", "--open", folder=folder, environment=browser)
        assert ended.returncode == 0, ended.stderr
        assert ("is not opened" in ended.stderr, source in ended.stderr) == (not is_opened, not is_opened)
    assert opened(folder) == [page, (folder / "good.jpg").as_uri()]


def test_a_file_that_a_server_names_is_not_opened(folder: Path, browser: dict[str, str]) -> None:
    with embedded_server(folder / "served.sqlite") as server:
        at = ("--url", str(server.client.base_url))
        for source in (str(folder / "good.jpg"), "--version", "https://example.org/"):
            sent = {"file": (folder / "a.jpg").read_bytes()}
            server.client.post("/images/1", files=sent, data={"source": source}).raise_for_status()
            is_opened = source == "https://example.org/"
            start = run_process if is_opened else run
            ended = start("search", "a.jpg", *at, "--open", folder=folder, environment=browser)
            assert (ended.returncode, "is not opened" in ended.stderr) == (0, not is_opened), ended.stderr
    assert opened(folder) == ["https://example.org/"]
