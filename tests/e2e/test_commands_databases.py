"""The commands that look after a database: what they mend, and what they leave as it is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.roles.progress import WAITING
from tests.fixtures import pictures
from tests.fixtures.command_line import Running, run
from tests.fixtures.stores import IqdbFile
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = next(path for path in pictures.photos() if path.suffix == ".jpg")
DISAGREES = 5
PATIENCE_S = 60


@pytest.fixture
def database(tmp_path: Path) -> IqdbFile:
    """A database of one image."""
    assert run("add", PHOTO, folder=tmp_path).returncode == 0
    return IqdbFile(tmp_path / "iqdb.sqlite")


def test_a_check_that_mended_everything_says_so_and_succeeds(database: IqdbFile) -> None:
    database.run("INSERT INTO iqdb_sources VALUES (9876543, 'x')")
    database.run("UPDATE iqdb_store SET live_count = live_count + 1")
    folder = database.path.parent
    found = run("check", folder=folder)
    assert found.returncode == DISAGREES
    assert found.stderr.splitlines()[-1] == "looked at 1 row of images; 2 disagreements"
    mended = run("check", "--repair", folder=folder)
    assert mended.stderr.splitlines()[-1] == "looked at 1 row of images; 2 disagreements, 2 of them mended"
    assert mended.returncode == 0
    again = run("check", "--repair", "--json", folder=folder)
    assert (again.returncode, json.loads(again.stdout)["found"]) == (0, 0)


def test_a_check_that_cannot_mend_everything_says_how_much_and_fails(database: IqdbFile) -> None:
    database.run("UPDATE images SET sig = substr(sig, 1, 7)")
    database.run("INSERT INTO iqdb_sources VALUES (9876543, 'x')")
    ended = run("check", "--repair", "--json", folder=database.path.parent)
    assert ended.returncode == DISAGREES
    report = json.loads(ended.stdout)
    assert report["repaired"] == report["found"] - 1
    assert [one["kind"] for one in report["findings"]].count("image") == 1


def test_a_backup_does_not_upgrade_the_database_of_an_older_version(database: IqdbFile) -> None:
    for statement in (
        "DROP TABLE iqdb_sources",
        "DROP TABLE iqdb_lineage",
        "UPDATE iqdb_schema_version SET version_num = '0001'",
    ):
        database.run(statement)
    folder = database.path.parent
    ended = run("backup", "before.sqlite", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "before.sqlite holds 1 image\n")
    for path in (database.path, folder / "before.sqlite"):
        assert IqdbFile(path).run("SELECT version_num FROM iqdb_schema_version") == [("0001",)]
    twice = run("backup", "before.sqlite", folder=folder)
    assert (twice.returncode, twice.stderr) == (1, "iqdb: before.sqlite exists already\n")


def test_a_command_says_that_it_waits_for_a_locked_database(database: IqdbFile) -> None:
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        anew = {"STARTED_BY": "Python anew: those that are forked tell of no wait"}
        with Running("status", folder=database.path.parent, environment=anew) as command:
            wait_until(lambda: WAITING in command.errors(), PATIENCE_S, what="it says what it waits for")
            other.execute("ROLLBACK")
            assert (command.wait_end(), command.errors()) == (0, f"{WAITING}\n")
