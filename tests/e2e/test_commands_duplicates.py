"""`iqdb duplicates` that is interrupted, fails or goes on, and what it may find in a database."""

from __future__ import annotations

import csv
import http.server
import io
import json
import os
import re
import resource
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from io import FileIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from api.roles.cli import main
from api.roles.commands.duplicates import Output
from api.roles.progress import ProgressLine
from iqdb_core.model import Write
from iqdb_core.store import open_store
from tests.fixtures.command_line import Running, run
from tests.fixtures.http_peer import handled_by
from tests.fixtures.stores import signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GROUP = {"post_ids": [1, 2], "pairs": [{"post_ids": [1, 2], "likelihood": 1.0, "score": 100.0}]}
LATER = {"post_ids": [4, 5], "pairs": [{"post_ids": [4, 5], "likelihood": 1.0, "score": 100.0}]}
ANSWERS = {
    "/status": (200, {"images": 3}),
    "/duplicates": (200, {"groups": [GROUP], "looked_at": 2, "next": 2}),
}


class Failing(http.server.BaseHTTPRequestHandler):
    """Knows the first page of groups, one of which has lost an image meanwhile, and fails at the next."""

    answers = ANSWERS
    sources: Mapping[int, str] | None = {1: "one", 3: "", 6: ""}

    def do_GET(self) -> None:
        path, _, said = self.path.partition("?")
        after = int(parse_qs(said).get("after", ["-1"])[0])
        if path == "/duplicates" and after >= 0:
            path = "further"
        status, body = self.answers.get(path, (500, {"message": "internal error"}))
        if path == "/images" and self.sources is not None:
            known = [{"post_id": one, "source": name} for one, name in self.sources.items() if one > after]
            status, body = 200, {"images": known}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Knowing(Failing):
    """Has a second page of groups, and no third."""

    answers = ANSWERS | {
        "further": (200, {"groups": [LATER], "looked_at": 3, "next": None}),
    }


class FailingWithin(Failing):
    """Fails when it is asked where the images of a page come from."""

    sources = None


@pytest.fixture
def failing(request: pytest.FixtureRequest) -> Iterator[str]:
    with handled_by(getattr(request, "param", Failing)) as port:
        yield f"http://127.0.0.1:{port}/"


def test_who_is_interrupted_by_the_server_is_told_where_to_go_on(failing: str) -> None:
    ended = run("duplicates", "--url", failing, "--format", "ndjson")
    assert ended.returncode != 0
    assert "go on with --after 2" in ended.stderr
    assert "internal error" in ended.stderr
    first, second = json.loads(ended.stdout)["images"]
    assert (first["source"], second.keys()) == ("one", {"post_id", "likelihood"})


class Terminal(io.StringIO):
    """Both standard streams on one terminal."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return what is seen, without colours: what comes after a carriage return is written over a line."""
        shown = []
        for line in re.sub("\x1b[^m]*m", "", self.getvalue()).split("\n")[:-1]:
            seen = ""
            for piece in line.split("\r"):
                seen = piece + seen[len(piece) :]
            shown.append(seen.rstrip())
        return shown


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[str]:
    """Run a command, to which everything seems to take long, and return the lines that are seen."""
    defaults = ProgressLine.__init__.__kwdefaults__
    monkeypatch.setattr(ProgressLine.__init__, "__kwdefaults__", {**defaults, "delay_s": 0})
    monkeypatch.setattr("api.roles.progress._REDRAW_S", 0)
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal), suppress(SystemExit):
        main(list(map(str, arguments)))
    return terminal.lines()


@pytest.mark.parametrize("failing", [Knowing], indirect=True)
def test_rows_and_bars_on_one_terminal_are_lines_of_their_own(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = on_a_terminal(monkeypatch, "duplicates", "--url", failing)
    assert [line.split()[:2] for line in lines[:-2]] == [
        ["group", "post"], ["1", "1"], ["1", "2"], ["4", "4"], ["4", "5"]
    ]  # fmt: skip
    assert lines[-2].startswith("looking for duplicates: [")
    assert lines[-1].startswith("2 groups among 5 images")


def test_a_table_stands_below_the_bar_of_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = on_a_terminal(monkeypatch, "search", 1, "--db", folder / "iqdb.sqlite")
    assert lines[0].endswith("6 of 6")
    assert lines[1].startswith("id")


def test_where_to_go_on_is_told_below_the_bar(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = on_a_terminal(monkeypatch, "duplicates", "--url", failing)
    assert "interrupted; go on with --after 2" in lines


@pytest.mark.parametrize("failing", [FailingWithin], indirect=True)
def test_of_a_page_that_cannot_be_told_whole_nothing_is_written(failing: str, tmp_path: Path) -> None:
    ended = run("duplicates", "--url", failing, "-o", "found.csv", folder=tmp_path)
    assert "go on with --after -1" in ended.stderr
    assert (tmp_path / "found.csv").read_text().splitlines() == ["group,post_id,likelihood,source"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database that knows three pictures twice: 1 and 4, 2 and 3, 5 and 6."""
    store = open_store(str(tmp_path / "iqdb.sqlite"))
    numbers = {1: 1, 2: 2, 3: 2, 4: 1, 5: 3, 6: 3}
    store.apply([Write(one, 1, signature(number), f"{one}.jpg") for one, number in numbers.items()])
    store.close()
    return tmp_path


def test_a_group_has_the_same_number_in_every_run_and_shares_it_with_none(folder: Path) -> None:
    def numbers(text: str) -> list[tuple[int, int]]:
        return [(int(row["group"]), int(row["post_id"])) for row in csv.DictReader(io.StringIO(text))]

    every = [(1, 1), (1, 4), (2, 2), (2, 3), (5, 5), (5, 6)]
    table = run("duplicates", "--format", "table", folder=folder).stdout.splitlines()
    assert [tuple(map(int, line.split()[:2])) for line in table[1:]] == every
    lines = map(json.loads, run("duplicates", folder=folder).stdout.splitlines())
    assert [(one["group"], image["post_id"]) for one in lines for image in one["images"]] == every
    run("duplicates", "-o", "found.csv", folder=folder)
    assert numbers((folder / "found.csv").read_text()) == every
    again = run("duplicates", "-o", "found.csv", folder=folder)
    assert (again.returncode, again.stderr.split(";")[0]) == (1, "iqdb: found.csv is there already")
    assert numbers((folder / "found.csv").read_text()) == every
    (folder / "found.csv").write_text("group,post_id,likelihood,source\n1,1,1.0,1.jpg\n1,4,1.0,4.jpg\n")
    run("duplicates", "-o", "found.csv", "--after", 1, folder=folder)
    assert numbers((folder / "found.csv").read_text()) == every


def test_an_empty_source_is_none(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "iqdb.sqlite")) as connection, connection:
        connection.execute("UPDATE iqdb_sources SET source = '' WHERE post_id IN (1, 2, 3)")
    ended = run("duplicates", folder=folder)
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line)["images"] for line in ended.stdout.splitlines()]
    sources = [{image["post_id"]: image.get("source") for image in images} for images in told[:2]]
    assert sources == [{1: None, 4: "4.jpg"}, {2: None, 3: None}]


def test_who_stops_reading_is_not_told_to_go_on(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with Running("duplicates", folder=folder, stdout=writing) as looking:
        os.close(writing)
        assert looking.wait_end() == 1
        assert looking.errors() == ""


def test_a_page_for_which_there_is_no_room_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FileIO(tmp_path / "found", "a") as file:
        out = Output(file)
        out.write("a page\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                out.write("another page\n" * 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        out.write("the same page\n")
    assert (tmp_path / "found").read_text() == "a page\nthe same page\n"
