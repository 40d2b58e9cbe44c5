"""The commands that end by themselves: upgrade and migrate."""

from __future__ import annotations

import io
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import termios
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.roles.cli import COMMANDS, load
from api.roles.progress import ProgressLine
from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.command_line import run
from tests.fixtures.servers import embedded_server
from tests.fixtures.stores import put
from tests.fixtures.unhurried import without_delays

if TYPE_CHECKING:
    from pathlib import Path


def test_an_iqdb_file_is_copied_to_postgres_and_back(tmp_path: Path, postgres_url: str) -> None:
    source, back = tmp_path / "old.db", tmp_path / "new.sqlite"
    shutil.copyfile(pictures.FIXTURES / "data" / "small-40.sqlite", source)
    before = source.read_bytes()
    for start, target in (
        (str(source), postgres_url),
        (postgres_url, str(back)),
        (str(source), postgres_url),
    ):
        ended = run("migrate", start, target)
        assert ended.returncode == 0, ended.stderr
        assert "interrupted" not in ended.stderr
        assert "both hold 40 images" in ended.stderr
    assert source.read_bytes() == before
    rows = "SELECT post_id, avglf1, avglf2, avglf3, sig FROM images ORDER BY post_id"
    found = []
    for file in (source, back):
        connection = sqlite3.connect(file)
        found.append(connection.execute(rows).fetchall())
        connection.close()
    assert found[0] == found[1]
    with embedded_server(back) as server:
        assert "with 40 images" in server.ready_line


def test_a_target_with_other_images_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "old.db", tmp_path / "other.sqlite"
    shutil.copyfile(pictures.FIXTURES / "data" / "small-40.sqlite", source)
    with closing(open_store(str(target))) as store:
        store.apply([put(1, 1)])
    ended = run("migrate", str(source), str(target))
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert ended.stderr.startswith("iqdb: ")


def test_upgrade_makes_the_tables(tmp_path: Path) -> None:
    database = tmp_path / "new.sqlite"
    for _ in range(2):
        ended = run("upgrade", "--database-url", str(database))
        assert (ended.returncode, "with 0 images" in ended.stderr) == (0, True)
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM images").fetchone() == (0,)
    connection.close()


def test_the_worker_has_options_of_its_own() -> None:
    shown = run("worker", "-h")
    assert (shown.returncode, "--worker-processes" in shown.stdout) == (0, True)
    sentence = "iqdb: --worker-processes must be a whole number above 0, not '0'\n"
    assert run("worker", "--processes", "0").stderr == sentence
    assert run("worker", "--nonsense").returncode == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_mistyped_command_is_told_what_it_may_be() -> None:
    ended = run("duplicate")
    assert ended.returncode == 2
    assert "No such command 'duplicate'. Did you mean 'duplicates'?" in ended.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_its_lines_at_the_edge_of_the_terminal_alone(name: str) -> None:
    help_text = load(name).help
    assert help_text
    assert "\n" not in help_text.replace("\n\n", "")


def test_progress_is_one_line() -> None:
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        line = ProgressLine("copying", stream=stream, delay_s=0)
        line(50, 200)
        line(60, 200)
        line.close()
    assert terminal.getvalue() == "\rcopying: [########----------------------] 25%, 50 of 200\n"
    assert log.getvalue() == "copying: 25%, 50 of 200\n"


def test_progress_is_no_wider_than_its_terminal() -> None:
    theirs, ours = pty.openpty()
    termios.tcsetwinsize(ours, (24, 40))
    with open(ours, "w") as terminal:  # noqa: PTH123 - a descriptor
        line = ProgressLine("copying", stream=terminal, delay_s=0)
        line(50, 200)
        line.close()
        shown = b""
        while not shown.endswith(b"\n"):  # a terminal may hand over each write by itself
            shown += os.read(theirs, 1000)
        assert shown == b"\rcopying: 25%, 50 of 200\r\n"
    os.close(theirs)


def test_short_work_is_not_mentioned() -> None:
    stream = io.StringIO()
    line = ProgressLine("copying", stream=stream, delay_s=60)
    line(1, 2)
    line.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("out", ["/dev/full", "&-"])
@pytest.mark.parametrize("command", ["status --db {}", "export - --db {}", "--version", "--help"])
def test_unwritable_output_causes_no_traceback(command: str, out: str, tmp_path: Path) -> None:
    database = tmp_path / "iqdb.sqlite"
    shutil.copyfile(pictures.FIXTURES / "data" / "small-40.sqlite", database)
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m api {command.format(database)} >{out}"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    is_full = out == "/dev/full"
    said = "iqdb: the output cannot be written: No space left on device\n" if is_full else ""
    assert (ended.returncode, without_delays(ended.stderr)) == (int(is_full), said)
