"""The commands of a person: where they work, and what is left of them when they are ended."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from api.roles.cli import COMMANDS, load
from iqdb_core.settings import Settings
from tests.fixtures import pictures, programs
from tests.fixtures.command_line import Running, run, run_process
from tests.fixtures.ports import free_port
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fixtures.servers import ServerProcess

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:4]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with three images."""
    with embedded_server(tmp_path_factory.mktemp("server") / "iqdb.sqlite") as running:
        for number, photo in enumerate(PHOTOS[:3], 1):
            files = {"file": photo.read_bytes()}
            running.client.post(f"/images/{number}", files=files, params={"source": f"é {number}"})
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database of one image, which is not the server's."""
    shutil.copyfile(PHOTOS[3], tmp_path / "local.jpg")
    assert run("add", "local.jpg", folder=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize("by", ["option", "environment"])
def test_an_export_is_of_the_server_that_is_named(folder: Path, server: ServerProcess, by: str) -> None:
    url = str(server.client.base_url)
    options = ("--url", url) if by == "option" else ()
    variables = {"IQDB_URL": url} if by == "environment" else {}

    def export(file: str) -> str:
        ended = run("export", file, *options, folder=folder, environment=variables)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    images = {number: server.client.get(f"/images/{number}").json() for number in (1, 2, 3)}
    lines = [json.loads(line) for line in export("-").splitlines()]
    assert {one["post_id"]: (one["hash"], one["source"]) for one in lines} == {
        number: (one["hash"], one["source"]) for number, one in images.items()
    }
    rows = list(
        csv.DictReader(io.StringIO(export("-") if export("a.csv") else (folder / "a.csv").read_text()))
    )
    assert [(row["post_id"], row["source"]) for row in rows] == [(str(n), f"é {n}") for n in images]
    export("a.db")
    with sqlite3.connect(folder / "a.db") as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (3,)
    assert not list(folder.glob("*.part"))


def test_no_command_works_elsewhere_than_where_it_is_told_to(folder: Path) -> None:
    elsewhere = {"IQDB_URL": f"http://127.0.0.1:{free_port()}"}
    for command in ("status", "check"):
        ended = run(command, "--db", "iqdb.sqlite", folder=folder, environment=elsewhere)
        assert ended.returncode == 0, ended.stderr
    ended = run("rm", "1", "--db", "iqdb.sqlite", "--url", elsewhere["IQDB_URL"], folder=folder)
    assert (ended.returncode, "only one of them" in ended.stderr) == (2, True)
    ended = run("rm", "1", "--url", "", folder=folder)
    assert (ended.returncode, "--url is empty" in ended.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [("backup", "b.sqlite"), ("check",), ("check", "--repair")])
def test_what_only_a_database_can_do_is_refused_for_a_server(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    url = "http://127.0.0.1:9"
    for options, variables in ((("--url", url), {}), ((), {"IQDB_URL": url})):
        ended = run(*arguments, *options, folder=folder, environment=variables)
        assert (ended.returncode, "not on a server" in ended.stderr) == (2, True), ended.stderr
    assert "--url" not in run(arguments[0], "--help").stdout
    assert not (folder / "b.sqlite").exists()


def test_commands_offer_what_they_use() -> None:
    used = {
        "hash": {"max_pixels"},
        "compare": {"max_pixels"},
        "search": {"max_pixels", "database_url", "url", "token"},
        "duplicates": {"database_url", "url", "token"},
        "export": {"database_url", "url", "token"},
        "backup": {"database_url"},
        "check": {"database_url"},
        "rm": {"database_url", "url", "token"},
        "status": {"database_url", "url", "token"},
        "add": {"database_url", "url", "token", "max_pixels", "max_upload_bytes"},
    }
    for name in set(COMMANDS) & set(used):
        offered = {one.name for one in load(name).params if not one.hidden} & set(Settings.model_fields)
        assert offered - {"log_level"} == used[name], name


class CutShort(BaseHTTPRequestHandler):
    """Begins an export and ends in the middle."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        line = json.dumps({"post_id": 1, "hash": "iqdb_"}).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.db"])
def test_an_export_that_is_cut_short_leaves_nothing(tmp_path: Path, name: str) -> None:
    listener = HTTPServer(("127.0.0.1", 0), CutShort)
    serving = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    serving.start()
    ended = run("export", name, "--url", f"http://127.0.0.1:{listener.server_port}", folder=tmp_path)
    listener.shutdown()
    listener.server_close()
    assert ended.returncode == 1
    assert ended.stderr.startswith("iqdb: http://127.0.0.1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.waits
def test_a_killed_export_leaves_no_file_of_that_name(folder: Path) -> None:
    row = (
        "(post_id, avglf1, avglf2, avglf3, sig) SELECT post_id + {0}, avglf1, avglf2, avglf3, sig FROM images"
    )
    with sqlite3.connect(folder / "big.sqlite") as connection:
        connection.execute(f"ATTACH DATABASE '{folder / 'iqdb.sqlite'}' AS small")
        connection.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, post_id INTEGER UNIQUE NOT NULL,"
            " avglf1 REAL NOT NULL, avglf2 REAL NOT NULL, avglf3 REAL NOT NULL, sig BLOB NOT NULL)"
        )
        connection.execute(f"INSERT INTO images {row.format(0)}".replace("FROM images", "FROM small.images"))
        for doubling in range(16):
            connection.execute(f"INSERT INTO images {row.format(2**doubling)}")
    assert run("upgrade", "--database-url", "big.sqlite", folder=folder).returncode == 0
    part = folder / "a.ndjson.part"

    def has_begun() -> bool:
        return part.exists() and any(file.stat().st_size for file in part.iterdir())

    for blow, ends_with in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        with Running("export", "a.ndjson", "--db", "big.sqlite", folder=folder) as started:
            wait_until(lambda: has_begun() or started.poll() is not None, 60, what="the export has begun")
            started.send_signal(blow)
            code, errors = started.wait_end(), started.errors()
        assert code == ends_with, errors
        assert "Traceback" not in errors
        assert not (folder / "a.ndjson").exists()
        assert part.exists() is (blow is signal.SIGKILL)
    again = run("export", "a.ndjson", "--db", "big.sqlite", folder=folder)
    assert (again.returncode, part.exists()) == (0, False), again.stderr


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_no_temporary_folder(
    folder: Path, blow: signal.Signals, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("temporary")
    # It hangs while the index of its search is still there. A single call without an end would go on if the
    # signal came just before it.
    program = (
        "from threading import Event\n"
        "from api.roles.cli import main\n"
        "from api.roles.command_parts.local import DatabaseTarget\n"
        "search = DatabaseTarget.search\n"
        "def hang(*arguments):\n"
        "    search(*arguments)\n"
        "    print('found', flush=True)\n"
        "    while True:\n"
        "        Event().wait(0.1)\n"
        "DatabaseTarget.search = hang\n"
        "main(['search', 'local.jpg'])\n"
    )
    with (folder / "errors").open("wb") as written:
        started = programs.start(
            program, stderr=written.fileno(), folder=folder, environment={"TMPDIR": str(place)}
        )
    assert started.stdout is not None
    with started.stdout as printed:
        assert printed.readline() == "found\n"
        assert len(list(place.glob("iqdb-index-*"))) == 1
        started.send_signal(blow)
        code, errors = started.wait(60), (folder / "errors").read_text()
    assert (code, "Traceback" in errors) == (130, False), errors
    assert list(place.glob("iqdb-index-*")) == []


@pytest.mark.waits
@pytest.mark.parametrize("arguments", [("search", "7"), ("add", "local.jpg")])
def test_where_nothing_answers_is_said_soon(folder: Path, arguments: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    begin = time.monotonic()
    state = {"XDG_STATE_HOME": str(folder / "state")}
    ended = run(*arguments, "--url", url, folder=folder, environment=state)
    assert ended.returncode == 1
    assert f"waiting for {url}: Connection refused\n" in ended.stderr
    assert ended.stderr.endswith(": Connection refused\n")
    assert time.monotonic() - begin < 30


def test_turns_are_a_choice(folder: Path) -> None:
    ended = run("search", "local.jpg", "--turns", "foo", folder=folder)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert run("search", "local.jpg", "--turns", "all", folder=folder).returncode == 0


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """A folder with a database in which one picture is there twice."""
    for name, photo in (("a.jpg", PHOTOS[0]), ("b[/x].jpg", PHOTOS[1]), ("c.jpg", PHOTOS[0])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(photo, tmp_path / name)
    assert run("add", ".", folder=tmp_path).returncode == 0
    return tmp_path


def test_where_more_copies_are_known_it_is_said(twins: Path) -> None:
    for options, said in (
        (("-n", "1"), "more copies are known; -n 1000 shows them\n"),
        (("-n", "2"), ""),
        (("-n", "1", "--all"), ""),
    ):
        ended = run("search", "a.jpg", *options, folder=twins)
        assert (ended.returncode, ended.stderr) == (0, said)
        assert len(ended.stdout.splitlines()) == 1 + int(options[1])
    assert len(json.loads(run("search", "a.jpg", "-n", "1", "--json", folder=twins).stdout)) == 1


def test_tables_of_duplicates_have_names_of_columns_once(twins: Path) -> None:
    header = "group,post_id,likelihood,source"
    shown = run("duplicates", "--format", "csv", folder=twins).stdout.splitlines()
    assert (shown[0], len(shown)) == (header, 3)
    for after in ("-1", "-1"):
        run("duplicates", "--format", "csv", "--output", "all.csv", "--after", after, folder=twins)
    lines = (twins / "all.csv").read_text().splitlines()
    assert (lines[0], lines.count(header), len(lines)) == (header, 1, 5)
    gone_on = run("duplicates", "--format", "csv", "--after", "0", folder=twins).stdout
    assert header not in gone_on


def test_duplicates_on_a_terminal_are_a_table(twins: Path) -> None:
    theirs, ours = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "200"}
    with Running("duplicates", folder=twins, environment=environment, stdout=ours) as looking:
        os.close(ours)
        shown = b""
        with suppress(OSError):
            while piece := os.read(theirs, 65_536):
                shown += piece
        os.close(theirs)
        assert looking.wait_end() == 0
    assert b"post id" in shown
    assert b"c.jpg" in shown
    assert b"{" not in shown
    plain = run_process("duplicates", folder=twins).stdout
    assert {one["post_id"] for one in json.loads(plain)["images"]} == {1, 2}
