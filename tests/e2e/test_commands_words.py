"""What the commands for people say at the end: how many, of what, and what to type next."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from subprocess import PIPE

import pytest
from PIL import Image

from api.roles.command_parts import suggested
from api.roles.command_parts.gone_files import gone_below
from iqdb_core.duplicates import MOST_PAIRED
from iqdb_core.errors import ConfigError
from tests.fixtures import pictures
from tests.fixtures.command_line import ROOT, run
from tests.fixtures.servers import embedded_server
from tests.fixtures.unhurried import without_delays

ONE, OTHER = pictures.picture(1), pictures.picture(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture that is there twice, and another one."""
    place = tmp_path / "pictures"
    place.mkdir()
    for name, data in (("b.jpg", ONE), ("c.jpg", ONE), ("d.jpg", OTHER)):
        (place / name).write_bytes(data)
    return tmp_path


def test_groups_are_written_as_the_name_of_their_file_says(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    for name, form in (("dup.csv", "csv"), ("DUP.CSV", "csv"), ("dup.txt", "ndjson"), ("dup", "ndjson")):
        assert run("duplicates", "-o", name, folder=folder).returncode == 0
        text = (folder / name).read_text()
        if form == "csv":
            assert [row["post_id"] for row in csv.DictReader(text.splitlines())] == ["1", "2"], name
        else:
            assert [one["post_id"] for one in json.loads(text)["images"]] == [1, 2], name
    for name, form in (("lines.csv", ("--format", "ndjson")), ("json.csv", ("--json",))):
        assert run("duplicates", "-o", name, *form, folder=folder).returncode == 0
        assert json.loads((folder / name).read_text())["pairs"], name
    assert run("duplicates", "--json", "--format", "csv", folder=folder).returncode == 2


def test_a_link_is_no_copy_of_the_file_it_leads_to(folder: Path) -> None:
    (folder / "pictures" / "a.jpg").symlink_to("b.jpg")  # has the smallest id: its file would be cleared up
    (folder / "pictures" / "e.jpg").symlink_to("d.jpg")
    run("add", "pictures", folder=folder)
    ended = run("duplicates", folder=folder)
    (group,) = map(json.loads, ended.stdout.splitlines())
    assert [Path(one["source"]).name for one in group["images"]] == ["b.jpg", "c.jpg"]
    assert [pair["post_ids"] for pair in group["pairs"]] == [[2, 3]]
    assert ended.stderr.splitlines() == [
        "1 group among 5 images; 1 image is there once more than needed",
        "left out 2 images that came by a link to a file of the same group",
    ]


def test_files_that_are_gone_are_no_copies_to_be_kept(folder: Path) -> None:
    (folder / "pictures" / "a.jpg").write_bytes(ONE)
    at = ("--db", "a b.sqlite")
    run("add", "pictures", *at, folder=folder)
    (folder / "pictures" / "a.jpg").unlink()
    ended = run("duplicates", *at, folder=folder)
    (group,) = map(json.loads, ended.stdout.splitlines())
    assert [(one["post_id"], Path(one["source"]).name) for one in group["images"]] == [
        (2, "b.jpg"),
        (3, "c.jpg"),
    ]
    assert [pair["post_ids"] for pair in group["pairs"]] == [[2, 3]]
    assert ended.stderr.splitlines() == [
        "1 group among 4 images; 1 image is there once more than needed",
        "left out 1 image whose file is gone; to forget what is gone: iqdb rm --db 'a b.sqlite' 1",
    ]
    (folder / "pictures" / "c.jpg").unlink()
    assert run("duplicates", *at, folder=folder).stdout == ""
    shutil.rmtree(folder / "pictures")  # a database that was copied, or a disk that is not mounted
    (group,) = map(json.loads, run("duplicates", *at, folder=folder).stdout.splitlines())
    assert [one["post_id"] for one in group["images"]] == [1, 2, 3]


def test_images_of_files_that_are_gone_can_be_deleted_at_once(folder: Path) -> None:
    disk, linked = folder / "pictures" / "disk", folder / "pictures" / "linked"
    for place in (disk, folder / "target"):
        place.mkdir()
        (place / "e.jpg").write_bytes(OTHER)
    linked.symlink_to(folder / "target")
    run("add", "pictures", linked, folder=folder)
    known = json.loads(run("status", "--json", folder=folder).stdout)["images"]
    (folder / "pictures" / "b.jpg").unlink()
    for place in (disk, folder / "target"):  # not mounted
        place.rename(place.with_suffix(".away"))
    disk.mkdir()
    doubts = "".join(
        f"kept 1 image of files below {place}, which is empty: is its disk not mounted?"
        " Otherwise remove the folder, and they will go\n"
        for place in (disk, linked)
    )
    for arguments, words in ((("--dry-run",), "would delete 1"), ((), "deleted 1")):
        ended = run("rm", "--gone", "pictures", *arguments, folder=folder)
        assert (ended.returncode, ended.stderr) == (0, f"{doubts}{words}\n")
        assert ended.stdout.endswith(f"  {folder / 'pictures' / 'b.jpg'}\n")
    disk.rmdir()
    linked.unlink()
    ended = run("rm", "--gone", "pictures", folder=folder)
    assert (ended.stdout.count("e.jpg"), ended.stderr) == (2, "deleted 2\n")
    run("add", "pictures", folder=folder)  # disk.away
    for name in ("c.jpg", "d.jpg"):
        (folder / "pictures" / name).rename(folder / name)
    for arguments in ((), ("--dry-run",)):  # of another machine, perhaps
        ended = run("rm", "--gone", "pictures", *arguments, folder=folder)
        assert (ended.returncode, ended.stdout.count(".jpg")) == (1, 2)
        assert "most files below pictures are gone, 2 of 3: is a disk" in ended.stderr
    for name in ("c.jpg", "d.jpg"):
        (folder / name).rename(folder / "pictures" / name)
    ended = run("rm", "--gone", "pictures", folder=folder)
    assert (ended.stdout, ended.stderr) == ("", "deleted 0\n")
    shutil.rmtree(folder / "pictures")
    (folder / "pictures").mkdir()  # where a disk is not mounted
    (folder / "else").mkdir()
    for arguments, code, words in (
        (("--gone", "pictures"), 0, "kept 3 images of files below"),
        (("--gone", "else"), 0, "deleted 0"),  # no image comes from there
        (("--gone", "nowhere"), 1, "there is no folder nowhere"),
        (("--gone", "x" * 300), 1, "there is no folder xxx"),
        (("--gone", ""), 2, "is empty"),
        (("1", "--dry-run"), 2, "need --gone"),
        (("1", "--yes"), 2, "need --gone"),
        ((), 2, "give the ids"),
        (("1", "--gone", "pictures"), 2, "give the ids"),
        (("--gone", "pictures", "--url", "http://127.0.0.1:9"), 2, "does not work on a server"),
    ):
        ended = run("rm", *arguments, folder=folder)
        assert (ended.returncode, words in ended.stderr) == (code, True), ended.stderr
    assert json.loads(run("status", "--json", folder=folder).stdout)["images"] == known - 2
    places = (folder / "pictures" / name for name in ("a\N{REPLACEMENT CHARACTER}.jpg", "b.jpg"))
    shutil.rmtree(folder / "pictures")
    (folder / "pictures").symlink_to(folder)  # to other files
    with pytest.raises(
        ConfigError, match="most files below pictures are gone, 1 of 1"
    ):  # of no text nothing is known
        gone_below(folder / "pictures", enumerate(map(str, places))).check("pictures")
    assert "are gone, 3 of 3" in run("rm", "--gone", "pictures", folder=folder).stderr
    assert run("rm", "--gone", "pictures", "--yes", folder=folder).stderr == "deleted 3\n"


def test_who_sits_at_a_terminal_is_asked_before_images_are_deleted(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    (folder / "pictures" / "b.jpg").unlink()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "api", "rm", "--gone", "pictures"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for answer, code, words in (("\n", 1, "deleted nothing"), ("y\n", 0, "deleted 1")):
        os.write(ours, answer.encode())
        ended = subprocess.run(
            command, cwd=folder, stdin=theirs, stdout=PIPE, stderr=theirs, env=environment, check=False
        )
        shown = os.read(ours, 10_000).decode()
        assert (ended.returncode, words in shown) == (code, True), shown
        assert "delete these images, 1 of 3 below pictures? [y/N]" in shown
        assert b"b.jpg" in ended.stdout
    os.close(ours)
    os.close(theirs)


def test_who_is_left_of_a_large_group_keeps_its_likelihood(folder: Path) -> None:
    """Of a large group only the likeliest pair of each is known: here that with the first, which is gone."""
    known = run("hash", "pictures/b.jpg", folder=folder).stdout.split()[0]
    files = [folder / f"{number}.jpg" for number in range(1, MOST_PAIRED + 2)]
    for file in files[1:]:
        file.touch()
    rows = [f"{number},{known},{file}" for number, file in enumerate(files, 1)]
    (folder / "list.csv").write_text("\n".join(["id,hash,source", *rows]))
    run("add", "list.csv", folder=folder)
    table = run("duplicates", "--format", "csv", folder=folder).stdout.splitlines()
    told = list(csv.DictReader(table))
    assert [row["source"] for row in told] == [str(file) for file in files[1:]]
    assert {row["likelihood"] for row in told} == {"1.0000"}
    (group,) = map(json.loads, run("duplicates", folder=folder).stdout.splitlines())
    assert {round(image["likelihood"], 4) for image in group["images"]} == {1.0}
    for file in files[1:40]:
        file.unlink()
    told = run("duplicates", folder=folder).stderr.splitlines()[-1]
    assert told.endswith(
        f"whose file is gone; to forget what is gone: iqdb rm --db iqdb.sqlite --gone {folder}"
    )
    assert run("rm", "--gone", folder, "--yes", folder=folder).stderr == "deleted 40\n"


def test_pictures_of_an_archive_are_there_as_long_as_it_is(folder: Path) -> None:
    with tarfile.open(folder / "some.tar", "w") as archive:
        archive.add(folder / "pictures" / "c.jpg", "c.jpg")
    (folder / "pictures" / "c.jpg").unlink()
    run("add", "some.tar", "pictures", folder=folder)
    (group,) = map(json.loads, run("duplicates", folder=folder).stdout.splitlines())
    assert [Path(one["source"]).name for one in group["images"]] == ["some.tar!c.jpg", "b.jpg"]
    (folder / "some.tar").unlink()
    assert run("duplicates", folder=folder).stdout == ""


def test_a_folder_that_is_added_by_a_link_as_well_holds_no_copies(folder: Path) -> None:
    (folder / "pictures" / "c.jpg").unlink()
    (folder / "other").symlink_to("pictures")
    run("add", "pictures", "other", folder=folder)
    ended = run("duplicates", folder=folder)
    assert (ended.stdout, "0 groups among 4 images" in ended.stderr) == ("", True)


def test_of_a_file_that_was_added_through_a_linked_folder_as_well_its_own_name_is_told(folder: Path) -> None:
    (folder / "other").symlink_to("pictures")
    run("add", "other", "pictures", folder=folder)  # those of the link have the smaller ids
    (group,) = map(json.loads, run("duplicates", folder=folder).stdout.splitlines())
    names = [Path(one["source"]).relative_to(folder.resolve()) for one in group["images"]]
    assert names == [Path("pictures/b.jpg"), Path("pictures/c.jpg")]


def test_ids_of_one_file_and_sources_of_a_server_stay(folder: Path) -> None:
    file = folder / "pictures" / "d.jpg"
    (folder / "link.jpg").symlink_to(file)
    (folder / "list.csv").write_text(f"id,file\n7,{file}\n8,{file}\n9,link.jpg\n")
    run("add", "list.csv", folder=folder)
    (group,) = map(json.loads, run("duplicates", folder=folder).stdout.splitlines())
    assert [one["post_id"] for one in group["images"]] == [7, 8]
    with embedded_server(folder / "iqdb.sqlite") as server:
        ended = run("duplicates", "--url", server.url, folder=folder)
    (group,) = map(json.loads, ended.stdout.splitlines())
    assert [one["post_id"] for one in group["images"]] == [7, 8, 9]


def test_what_was_deleted_and_what_was_not_there_is_counted(folder: Path) -> None:
    run("add", "pictures", folder=folder)
    with embedded_server(folder / "served.sqlite") as server:
        for image_id in (1, 2, 3):
            server.client.post(f"/images/{image_id}", files={"file": ONE})
        for at in ((), ("--url", server.url)):
            for ids, said in (
                ((1, 2, 99_999), "deleted 2; 1 was not there"),
                ((1, 2, 3, 3), "deleted 1; 2 were not there"),
            ):
                ended = run("rm", *ids, *at, folder=folder)
                assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", f"{said}\n")
    run("add", "pictures", folder=folder)
    assert run("rm", 1, folder=folder).stderr == "deleted 1\n"


def test_a_check_counts_rows_and_a_backup_images(folder: Path) -> None:
    run("add", "pictures/d.jpg", folder=folder)
    with sqlite3.connect(folder / "iqdb.sqlite") as connection:
        connection.execute(
            "INSERT INTO images (post_id, avglf1, avglf2, avglf3, sig) VALUES (9, 0, 0, 0, 'no')"
        )
    assert run("backup", "copy.sqlite", folder=folder).stderr == "copy.sqlite holds 1 image\n"
    ended = run("check", "--db", "copy.sqlite", folder=folder)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        5,
        "looked at 2 rows of images; 1 disagreement",
    )


def installed(program: Path) -> None:
    """Put the `iqdb` command there as pip does: what it is called by is the first of its words."""
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\n''''exec '{sys.executable}' \"$0\" \"$@\" # '''\n"
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom api.roles.cli import main\nmain()\n"
    )
    program.chmod(0o755)


def last_line(program: str, *arguments: str, folder: Path, path: str) -> str:
    """Return what `iqdb add` says last when it is typed like that."""
    ended = subprocess.run(
        [program, "add", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return ended.stderr.splitlines()[-1].removeprefix("look at them at http://127.0.0.1:5588/ with: ")


def test_the_last_line_of_an_add_is_a_command_that_works(folder: Path) -> None:
    binaries = folder / "some where" / "bin"
    installed(binaries / "iqdb")
    (folder / "more").mkdir()
    (folder / "more" / "f.jpg").write_bytes(pictures.picture(3))
    typed, path = "some where/bin/iqdb", os.environ["PATH"]
    there = f"{binaries}:{path}"
    shown = last_line(typed, "pictures", folder=folder, path="/usr/bin:/bin")
    assert shlex.split(shown) == [typed, "http", "127.0.0.1", "5588", "iqdb.sqlite", "--pictures", "pictures"]
    shown = last_line("iqdb", "pictures/d.jpg", "--db", "a b.sqlite", folder=folder, path=there)
    assert shlex.split(shown) == ["iqdb", "http", "127.0.0.1", "5588", "a b.sqlite"]
    shown = last_line(typed, "pictures", "more", "--db", "c.sqlite", folder=folder, path="/usr/bin:/bin")
    assert shlex.split(shown)[-2:] == ["--pictures", str(folder)]


def test_what_is_no_id_is_told(folder: Path) -> None:
    for word in ("x3", "-4", "1.5", "9" * 5000):
        ended = run("rm", "1", "--", word, folder=folder)
        assert (ended.returncode, ended.stderr) == (2, f"iqdb: an image id is 0..2**63-1, not {word}\n")


def test_no_suggested_command_has_a_password() -> None:
    assert suggested.on_database("postgresql://iqdb:secret@db/iqdb") == ["--db", "..."]


@pytest.mark.parametrize("role", ["http", "api", "query"])
def test_a_port_in_place_of_the_host_and_as_an_option_is_told_how_it_goes(role: str, tmp_path: Path) -> None:
    first = f"iqdb: the host comes first: iqdb {role} 127.0.0.1 5588\n"
    bare = f"iqdb: host and port come without --host and --port: iqdb {role} 127.0.0.1 5588\n"
    for arguments, said in (
        (("5588",), first),
        (("5588", "file.sqlite"), first),
        (("--port", "5588"), bare),
        (("--host=0.0.0.0",), bare),
    ):
        ended = run(role, *arguments, folder=tmp_path)
        assert (ended.returncode, ended.stderr) == (2, said)
    (tmp_path / "a b.jpg").touch()
    ended = run(role, "a b.jpg", folder=tmp_path)
    said = f"iqdb: '{role}' runs a server; to find a picture: iqdb search 'a b.jpg'\n"
    assert (ended.returncode, ended.stderr) == (2, said)
    (tmp_path / "a.sqlite").touch()
    ended = run(role, "a.sqlite", folder=tmp_path)
    said = f"iqdb: '{role}' runs a server; to serve a file: iqdb http 127.0.0.1 5588 a.sqlite\n"
    assert (ended.returncode, ended.stderr) == (2, said)
    ended = run(role, "localhost:5588", folder=tmp_path)
    said = f"iqdb: host and port are two words: iqdb {role} localhost 5588\n"
    assert (ended.returncode, ended.stderr) == (2, said)
    ended = run(role, "9" * 5000, 0, folder=tmp_path)
    assert (ended.returncode, ended.stderr.startswith("iqdb: '9999")) == (2, True)


def test_the_readme_shows_what_a_folder_gives(tmp_path: Path) -> None:
    """The table of `duplicates` is that of a terminal, which is asked for here."""
    (home := tmp_path / "Users" / "ada" / "Pictures").mkdir(parents=True)
    photos = {path.stem.partition("__")[2]: path for path in pictures.photos()}
    for name, photo in (("bridge", "Bridge_by_Sander_Klootwijk"), ("dragonfly", "Dragonfly_by_Bolly")):
        shutil.copyfile(photos[photo], home / f"{name}.jpg")
    with Image.open(home / "bridge.jpg") as photo:
        photo.resize((340, 192)).save(home / "bridge-small.jpg")
        page = Image.new("RGB", (900, 700), (245, 245, 245))
        page.paste(photo, (110, 170))
        page.save(tmp_path / "screenshot.png")
    installed(tmp_path / ".venv" / "bin" / "iqdb")
    (block,) = re.findall(
        r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["add", "search", "duplicates"]
    printed = ""
    for command in commands:
        ended = subprocess.run(
            ["sh", "-c", f"{command} --format table" if command.endswith("duplicates") else command],
            cwd=tmp_path,
            env={**os.environ, "PATH": "/usr/bin:/bin", "HOME": str(home.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=120,
        )
        printed += f"$ {command}\n{without_delays(ended.stdout)}"
    assert [line.rstrip().replace(str(tmp_path), "") for line in printed.splitlines()] == block.splitlines()
