"""The commands for people where nothing is compiled yet: an answer at once, and the same as later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures import pictures
from tests.fixtures.command_line import run_process

PHOTOS = [path for path in pictures.photos() if path.suffix == ".jpg"][:4]
NOTICE = "preparing for this machine"


def run(*arguments: object, folder: Path, cache: Path | None = None) -> tuple[str, str]:
    """Return what a command prints, and what it says beside it; with a cache, Python starts anew."""
    place = {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    ended = run_process(*arguments, folder=folder, environment=place)
    assert ended.returncode in {0, 4}, ended.stderr
    return ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of a few pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for photo in PHOTOS:
        shutil.copy(photo, folder)
    shutil.copy(PHOTOS[0], folder / "again.jpg")
    run("add", ".", folder=folder)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("hash", *(photo.name for photo in PHOTOS)),
        ("search", PHOTOS[1].name, "--json", "--all"),
        ("compare", PHOTOS[0].name, PHOTOS[1].name, "--json"),
        ("duplicates",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_first_answer_is_that_of_later_ones_and_compiles_nothing(
    arguments: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    expected, _ = run(*arguments, folder=folder)
    answer, said = run(*arguments, folder=folder, cache=tmp_path)
    assert answer == expected
    assert expected
    assert NOTICE not in said
    assert not list(tmp_path.rglob("*.nbi"))


def test_adding_compiles_only_for_many_pictures(folder: Path, tmp_path: Path) -> None:
    few, _ = run(
        "add", ".", "--json", "--db", tmp_path / "new.sqlite", folder=folder, cache=tmp_path / "cache"
    )
    assert json.loads(few)["added"] == len(PHOTOS) + 1
    assert not list((tmp_path / "cache").rglob("*.nbi"))
