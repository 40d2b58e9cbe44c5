"""`iqdb compare`: two pictures, in either order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures import pictures
from tests.fixtures.command_line import run

PHOTO = next(path for path in pictures.photos() if "Bridge" in path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a screenshot of it, and one that is turned."""
    with Image.open(PHOTO) as photo:
        whole = photo.convert("RGB").resize((500, 320))
    page = Image.new("RGB", (900, 700), (245, 245, 245))
    page.paste(whole, (180, 170))
    page.save(tmp_path / "screenshot.png")
    whole.resize((400, 250)).save(tmp_path / "half.jpg")
    whole.rotate(-90, expand=True).save(tmp_path / "turned.png")
    return tmp_path


def compared(first: object, second: object, folder: Path) -> Any:
    ended = run("compare", first, second, "--json", folder=folder)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_part_of_a_picture_is_the_same_in_either_order(folder: Path) -> None:
    for names, said in (
        (("half.jpg", "screenshot.png"), "the first is a part of the second"),
        (("screenshot.png", "half.jpg"), "the second is a part of the first"),
    ):
        shown = run("compare", *names, folder=folder).stdout
        assert "the same picture" in shown
        assert said in shown
    there = compared("screenshot.png", "half.jpg", folder)
    back = compared("half.jpg", "screenshot.png", folder)
    assert (there["part_of"], back["part_of"]) == ("first", "second")
    assert there["part"] == back["part"] == {"x": 180, "y": 170, "width": 500, "height": 320}
    for name in ("verdict", "likelihood", "score", "turn"):
        assert there[name] == back[name]


def test_a_turn_is_what_was_done_to_the_first(folder: Path) -> None:
    assert compared("half.jpg", "turned.png", folder)["turn"] == "rotate90"
    assert compared("turned.png", "half.jpg", folder)["turn"] == "rotate270"


def test_a_comparison_for_programs_has_the_verdict_and_no_id(folder: Path) -> None:
    found = compared("half.jpg", "turned.png", folder)
    assert set(found) == {"verdict", "likelihood", "score", "hash", "turn", "detail"}
    assert found["verdict"] == "the same picture"
    assert found["hash"] == run("hash", "turned.png", folder=folder).stdout.split()[0]


def test_strangers_are_no_parts_of_each_other_in_either_order(folder: Path) -> None:
    (folder / "other.png").write_bytes(pictures.picture(5, (300, 200)))
    for names in (("other.png", "screenshot.png"), ("screenshot.png", "other.png")):
        shown = run("compare", *names, folder=folder).stdout
        assert "probably not the same" in shown
        assert "a part of" not in shown


def test_an_id_is_refused_with_what_answers_for_ids(folder: Path) -> None:
    ended = run("compare", "half.jpg", "7", folder=folder)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("iqdb: there is no file 7, and 'compare' takes no ids; 'iqdb search ")


def test_a_picture_that_is_too_large_is_named_with_the_option_that_helps(folder: Path) -> None:
    said = "the image has 100,000 pixels; the limit is 99,999 (--max-pixels)"
    small = ("--max-pixels", "99999")
    for arguments, words in (
        (
            ("compare", "turned.png", "half.jpg"),
            "iqdb: the first picture cannot be read: the image has 160,000 ",
        ),
        (("search", "half.jpg"), f"iqdb: the picture cannot be read: {said}\n"),
        (("hash", "half.jpg"), f"half.jpg: {said}\n"),
        (("add", "half.jpg"), f"half.jpg: {said}\n"),
    ):
        if arguments[0] == "search":
            run("add", "turned.png", folder=folder)
        ended = run(*arguments, *small, folder=folder)
        assert ended.returncode in {1, 3}, arguments
        assert words in ended.stderr


def test_a_file_of_no_bytes_is_empty(folder: Path) -> None:
    (folder / "empty.jpg").touch()
    for command in ("hash", "add"):
        ended = run(command, "empty.jpg", folder=folder)
        assert (ended.returncode, "empty.jpg: it is empty\n" in ended.stderr) == (3, True), ended.stderr
