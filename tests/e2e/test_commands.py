"""The commands of a person with a folder."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageOps

from iqdb_core.store import open_store
from tests.fixtures import pictures
from tests.fixtures.command_line import Running, run, run_process
from tests.fixtures.servers import embedded_server
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.fixtures.servers import ServerProcess

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:12]


def run_json(*arguments: object, folder: Path) -> Any:
    ended = run(*arguments, "--json", folder=folder)
    assert ended.returncode in {0, 3, 4}, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures in two places, one that is none, and one file of another kind."""
    for number, photo in enumerate(PHOTOS):
        place = tmp_path / "pictures" / ("holiday" if number % 2 else ".") / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, place)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"no picture at all")
    (tmp_path / "pictures" / "notes.txt").write_text("hello")
    return tmp_path


def test_a_folder_is_added_and_searched(folder: Path) -> None:
    first = run("add", "pictures", folder=folder)
    assert first.returncode == 3, first.stderr
    assert "made a new database iqdb.sqlite" in first.stderr
    assert f"added {len(PHOTOS)}, 0 were there already" in first.stderr
    assert "broken.jpg: " in first.stderr
    assert "Traceback" not in first.stderr

    again = run_json("add", "pictures", folder=folder)
    assert (again["added"], again["unchanged"]) == (0, len(PHOTOS))
    assert [Path(one["file"]).name for one in again["refused"]] == ["broken.jpg"]

    copy = folder / "copy.png"
    with Image.open(PHOTOS[3]) as photo:
        ImageOps.mirror(photo.convert("RGB").resize((300, 200))).save(copy)
    found = run_json("search", copy, folder=folder)
    assert Path(found[0]["source"]).name == PHOTOS[3].name
    assert found[0]["turn"] == "mirror"
    assert found[0]["likelihood"] > 0.99

    shown = run("search", found[0]["post_id"], folder=folder)
    assert (shown.returncode, shown.stdout) == (4, "")
    assert shown.stderr == "no copy is known; --turns all looks for turned ones, too\n"
    assert run("upgrade", "--db", "empty.sqlite", folder=folder).returncode == 0
    shown = run("search", copy, "--db", "empty.sqlite", folder=folder)
    assert (shown.returncode, shown.stderr) == (4, "no pictures are known yet; 'iqdb add' adds some\n")
    table = run("search", PHOTOS[3], folder=folder)
    assert table.returncode == 0, table.stderr
    assert "the same picture" in table.stdout
    assert PHOTOS[3].name in table.stdout


def test_what_changed_is_added_again_under_its_id(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    changed = folder / "pictures" / PHOTOS[0].name
    before = run_json("search", PHOTOS[0], folder=folder)[0]["post_id"]
    shutil.copyfile(PHOTOS[1], changed)
    assert run_json("add", "pictures", folder=folder)["added"] == 1
    store = open_store(str(folder / "iqdb.sqlite"))
    assert Path(store.sources_of([before])[before]) == changed
    assert store.live_count() == len(PHOTOS)
    store.close()


def test_what_was_removed_is_added_again(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    image_id = run_json("search", PHOTOS[0], folder=folder)[0]["post_id"]
    assert run("rm", image_id, folder=folder).returncode == 0
    assert run_json("status", folder=folder)["images"] == len(PHOTOS) - 1
    assert run_json("add", "pictures", folder=folder)["added"] == 1
    assert run_json("search", PHOTOS[0], folder=folder)[0]["post_id"] == image_id


def test_ids_come_from_names_and_lists(folder: Path) -> None:
    shutil.copyfile(PHOTOS[0], folder / "post-77.jpg")
    assert run("add", "post-77.jpg", "--id-from", r"post-(\d+)", folder=folder).returncode == 0
    (folder / "list.csv").write_text(f"id,file,source\n88,{PHOTOS[1]},https://example.org/88\n")
    assert run("add", "list.csv", folder=folder).returncode == 0
    found = run_json("search", PHOTOS[1], folder=folder)
    assert (found[0]["post_id"], found[0]["source"]) == (88, "https://example.org/88")
    shutil.copyfile(PHOTOS[2], folder / "other.jpg")
    assert run("add", "other.jpg", folder=folder).returncode == 0
    assert run_json("search", PHOTOS[2], folder=folder)[0]["post_id"] == 89, "ids go on above the largest"


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_gone_on_with_nothing_is_there_twice(tmp_path: Path, blow: signal.Signals) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number}.png").write_bytes(pictures.picture(number, (40, 30)))
    database = tmp_path / "iqdb.sqlite"
    with Running("add", "many", "--threads", 2, folder=tmp_path) as started:
        wait_until(lambda: count_of(database) >= 32 or started.poll() is not None, 60, what="some are in")
        started.send_signal(blow)
        code, errors = started.wait_end(), started.errors()
    if "added 300" in errors:  # all was done by then, and it no longer waited for signals
        assert code in {0, 130, -blow}
    else:
        assert code == (-9 if blow is signal.SIGKILL else 130), errors
    assert "Traceback" not in errors
    in_between = count_of(database)
    ended = run_json("add", "many", folder=tmp_path)
    assert ended["refused"] == []
    assert ended["added"] + ended["unchanged"] == 300
    assert ended["unchanged"] <= in_between
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT post_id) FROM images").fetchone() == (
            300,
            300,
        )
    store = open_store(str(database))
    sources = store.sources_of([one.image_id for one in store.ids_after(-1, 1000)])
    store.close()
    assert sorted(sources.values()) == sorted(str(path) for path in many.iterdir())


def count_of(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
            return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes a part of what is added in one request, as one behind a proxy may do."""
    limit = ("--max-batch-bytes", str(sum(photo.stat().st_size for photo in PHOTOS) // 2))
    with embedded_server(tmp_path_factory.mktemp("server") / "iqdb.sqlite", *limit) as running:
        yield running


@pytest.mark.parametrize("how", [(), ("--hash-here",)])
def test_a_server_takes_the_same_commands(folder: Path, server: ServerProcess, how: Sequence[str]) -> None:
    at = ("--url", str(server.client.base_url))
    environment = {"XDG_STATE_HOME": str(folder / "state")}
    added = run("add", "pictures", *at, *how, "--json", folder=folder, environment=environment)
    assert added.returncode == 3, added.stderr
    assert json.loads(added.stdout)["added"] == len(PHOTOS)
    again = run("add", "pictures", *at, "--json", folder=folder, environment=environment)
    assert json.loads(again.stdout)["unchanged"] == len(PHOTOS), again.stderr
    best = json.loads(run("search", PHOTOS[5], *at, "--json", folder=folder).stdout)[0]
    assert Path(best["source"]).name == PHOTOS[5].name
    assert json.loads(run("status", *at, "--json", folder=folder).stdout)["images"] == len(PHOTOS)
    shown = run("status", *at, folder=folder).stdout
    assert "maintenance state" in shown
    assert "{" not in shown
    known = [one["post_id"] for one in server.client.get("/images?limit=1000").json()["images"]]
    assert run("rm", *known, *at, folder=folder).returncode == 0
    assert server.client.get("/status").json()["images"] == 0
    assert not (folder / "iqdb.sqlite").exists()


def test_exports_hold_everything(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    lines = run("export", "-", folder=folder).stdout.splitlines()
    images = {one["post_id"]: one for one in map(json.loads, lines)}
    assert len(images) == len(PHOTOS)
    assert run("export", "all.csv", folder=folder).returncode == 0
    with (folder / "all.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {int(row["post_id"]): row["hash"] for row in rows} == {
        image_id: one["hash"] for image_id, one in images.items()
    }
    assert run("export", "iqdb.db", folder=folder).returncode == 0
    with sqlite3.connect(folder / "iqdb.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
            ("images",)
        ]
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (len(PHOTOS),)
    twice = run("export", "all.csv", folder=folder)
    assert twice.returncode == 1
    assert "exists already" in twice.stderr


def test_a_backup_is_a_database_and_checks_out(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    assert run("backup", "copy.sqlite", folder=folder).returncode == 0
    assert run_json("status", "--db", "copy.sqlite", folder=folder)["images"] == len(PHOTOS)
    report = run_json("check", "--db", "copy.sqlite", folder=folder)
    assert (report["images"], report["found"]) == (len(PHOTOS), 0)


def test_hashes_are_told_without_adding(tmp_path: Path) -> None:
    file, known = pictures.golden()[0]
    ended = run("hash", file, folder=tmp_path)
    assert ended.stdout == f"{known}  {file}\n"
    (tmp_path / "broken.jpg").write_bytes(b"no")
    ended = run("hash", file, "broken.jpg", folder=tmp_path)
    assert ended.returncode == 3
    assert "broken.jpg" in ended.stderr
    assert not (tmp_path / "iqdb.sqlite").exists()


def test_a_damaged_picture_is_told(tmp_path: Path) -> None:
    photo = PHOTOS[3].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) * 3 // 4])
    (tmp_path / "whole.jpg").write_bytes(photo)
    told = run("hash", "cut.jpg", "whole.jpg", folder=tmp_path)
    assert (told.returncode, told.stderr.count("damaged"), "cut.jpg: it is" in told.stderr) == (0, 1, True)
    lines = run("hash", "cut.jpg", "whole.jpg", "--json", folder=tmp_path).stdout.splitlines()
    assert [json.loads(line).get("damaged") for line in lines] == [True, None]
    with embedded_server(tmp_path / "served.sqlite") as server:
        for number, where in enumerate(((), ("--url", server.url), ("--url", server.url, "--hash-here"))):
            (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) * 3 // 4 - number])
            environment = {"XDG_STATE_HOME": str(tmp_path / f"state-{number}")}
            ended = run("add", ".", *where, folder=tmp_path, environment=environment)
            assert ended.returncode == 0, ended.stderr
            assert "1 was damaged, and added as far as it can be read:" in ended.stderr
            assert ended.stderr.count("cut.jpg") == 1
            assert "whole.jpg" not in ended.stderr
        found = run("search", "cut.jpg", "--url", server.url, "--json", folder=tmp_path)
        assert (found.returncode, found.stderr.count("the picture is damaged")) == (0, 1), found.stderr
        assert json.loads(found.stdout)
        assert "damaged" not in run("search", "whole.jpg", "--url", server.url, folder=tmp_path).stderr
    ended = run("compare", "cut.jpg", "whole.jpg", folder=tmp_path)
    assert (ended.returncode, ended.stderr.count("damaged")) == (0, 1), ended.stderr
    assert "the first picture is damaged" in ended.stderr
    assert "the second picture is damaged" in run("compare", "whole.jpg", "cut.jpg", folder=tmp_path).stderr
    found = run("search", "cut.jpg", folder=tmp_path)
    assert (found.returncode, "the picture is damaged" in found.stderr) == (0, True)
    assert "damaged" not in run("search", "whole.jpg", folder=tmp_path).stderr
    (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    assert run_json("add", ".", folder=tmp_path)["damaged"] == [str(tmp_path / "cut.jpg")]


def test_two_pictures_are_compared(folder: Path) -> None:
    smaller = folder / "smaller.jpg"
    with Image.open(PHOTOS[3]) as photo:
        photo.convert("RGB").resize((200, 150)).save(smaller)
    same = run_json("compare", PHOTOS[3], smaller, folder=folder)
    other = run_json("compare", PHOTOS[3], PHOTOS[5], folder=folder)
    assert same["score"] > 80
    assert same["likelihood"] > 0.99
    assert other["likelihood"] < 0.5


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    for arguments, words in (
        (("search", "1"), "there is no database iqdb.sqlite"),
        (("add", "missing"), "there is no file or folder missing"),
        (("add", ".", "--id-from", "("), "no regular expression"),
        (("search", "nonsense", "--url", "http://127.0.0.1:9"), "no file that is there"),
    ):
        ended = run(*arguments, folder=tmp_path)
        assert ended.returncode in {1, 2}, arguments
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not list(tmp_path.iterdir()), "no database is made for a name that is mistyped"


def test_help_fits_a_screen_and_begins_with_what_to_do_first(tmp_path: Path) -> None:
    ended = run_process("--help", folder=tmp_path, environment={"COLUMNS": "80", "TERM": "dumb"})
    lines = ended.stdout.splitlines()
    assert len(lines) <= 42
    assert "To begin: iqdb add FOLDER" in ended.stdout
    names = [line.strip("│ ").split()[0] for line in lines if line.strip("│ ").split()[:1]]
    assert names.index("add") < names.index("http")


def test_output_for_programs_is_nothing_else(folder: Path) -> None:
    ended = run_process("add", "pictures", "--json", folder=folder)
    assert isinstance(json.load(io.StringIO(ended.stdout)), dict)


def test_a_terminal_shows_how_much_of_all_is_done(folder: Path) -> None:
    for number in range(200):
        (folder / "pictures" / f"{number}.png").write_bytes(pictures.picture(number, (40, 30)))
    theirs, ours = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "120"}
    with Running("add", "pictures", folder=folder, environment=environment, stderr=ours) as adding:
        os.close(ours)
        shown = b""
        with suppress(OSError):  # how the end of a terminal is told
            while piece := os.read(theirs, 65_536):
                shown += piece
        os.close(theirs)
        assert adding.wait_end() == 3
    assert f"/{len(PHOTOS) + 201}".encode() in shown
    assert b"adding" in shown
