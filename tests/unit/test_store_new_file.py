"""A new file is whole or not there, takes no other's place, and has one writer."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from iqdb_core.errors import StoreInvalid
from iqdb_core.store.contents.files import new_file
from tests.fixtures import programs

if TYPE_CHECKING:
    from pathlib import Path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["links", "no links"])
def path(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "no links":

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return tmp_path / "export"


def test_it_is_there_when_it_is_whole_and_nothing_else_is(path: Path) -> None:
    with new_file(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names_in(path.parent) == ["export"]


def test_what_somebody_else_made_meanwhile_stays(path: Path) -> None:
    def export() -> None:
        with new_file(path) as part:
            part.write_text("an export")
            path.write_text("precious")

    with pytest.raises(StoreInvalid, match="export exists already"):
        export()
    assert path.read_text() == "precious"
    assert names_in(path.parent) == ["export"]


def test_a_second_writer_is_refused_and_the_first_not_disturbed(path: Path) -> None:
    with new_file(path) as part:
        part.write_text("the first")
        with pytest.raises(StoreInvalid, match="export is being written already"), new_file(path):
            pass
        with new_file(path.with_name("other")) as other:
            other.write_text("another file")
    assert path.read_text() == "the first"
    assert names_in(path.parent) == ["export", "other"]


def test_what_a_killed_writer_left_is_written_over(path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from iqdb_core.store.contents.files import new_file

        with new_file(Path(sys.argv[1])) as part:
            part.write_text("half")
            part.with_name(f"{part.name}-journal").write_text("of it")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert programs.run(script, path).returncode != 0
    assert names_in(path.parent) == ["export.part"]
    with new_file(path) as part:
        assert names_in(part.parent) == ["file", "lock"]
        assert part.read_text() == ""
        part.write_text("whole")
    assert names_in(path.parent) == ["export"]


IN_THE_WAY = r"export cannot be written while export\.part is there, .*: remove it"


def test_somebody_elses_file_of_the_name_beside_it_is_left_alone_and_named(path: Path) -> None:
    theirs = path.with_name("export.part")
    theirs.write_text("precious")
    with pytest.raises(StoreInvalid, match=IN_THE_WAY), new_file(path):
        pass
    assert theirs.read_text() == "precious"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that somebody would like to be written over, in a folder of its own."""
    victim = tmp_path / "elsewhere" / "file"
    victim.parent.mkdir(0o755)
    victim.write_text("precious")
    return victim


def test_a_link_in_place_of_the_folder_is_not_followed(path: Path, victim: Path) -> None:
    path.with_name("export.part").symlink_to(victim.parent)
    with pytest.raises(StoreInvalid, match=IN_THE_WAY), new_file(path):
        pass
    assert (victim.read_text(), names_in(victim.parent)) == ("precious", ["file"])


@pytest.mark.parametrize("has_lock", [True, False])
@pytest.mark.parametrize("whose", ["writable by others", "somebody else's"])
def test_a_folder_that_others_may_change_is_not_used(
    path: Path, victim: Path, whose: str, has_lock: bool
) -> None:
    folder = path.with_name("export.part")
    folder.mkdir()
    (folder / "file").symlink_to(victim)
    if has_lock:
        (folder / "lock").touch()
    before = names_in(folder)
    if whose == "writable by others":
        folder.chmod(0o777)
    elif os.geteuid() == 0:
        for one in (folder, *folder.iterdir()):
            os.chown(one, 65534, 65534, follow_symlinks=False)
    else:
        pytest.skip("only root gives files away")
    with pytest.raises(StoreInvalid, match=IN_THE_WAY), new_file(path):
        pass
    assert victim.read_text() == "precious"
    assert names_in(folder) == before


@pytest.mark.parametrize("name", ["file", "file-journal"])
def test_a_link_that_was_left_in_the_folder_is_not_followed(path: Path, victim: Path, name: str) -> None:
    folder = path.with_name("export.part")
    folder.mkdir(0o755)
    (folder / name).symlink_to(victim)
    with new_file(path) as part:
        part.write_text("whole")
    assert (path.read_text(), path.is_symlink(), victim.read_text()) == ("whole", False, "precious")


def test_a_lock_that_is_a_link_is_not_followed(path: Path, victim: Path) -> None:
    folder = path.with_name("export.part")
    folder.mkdir(0o755)
    (folder / "lock").symlink_to(victim)
    with pytest.raises(StoreInvalid, match=IN_THE_WAY), new_file(path):
        pass
    assert names_in(folder) == ["lock"]


def test_what_was_put_in_place_of_the_part_gets_no_name(path: Path, victim: Path) -> None:
    def export() -> None:
        with new_file(path) as part:
            part.parent.rename(path.with_name("moved"))
            part.parent.mkdir()
            part.symlink_to(victim)

    with pytest.raises(StoreInvalid, match=r"export is not written: somebody else changed export\.part"):
        export()
    assert not path.exists()
    assert victim.read_text() == "precious"


def test_a_link_that_leads_nowhere_is_a_file(path: Path) -> None:
    path.symlink_to("nowhere")
    with pytest.raises(StoreInvalid, match="exists already"), new_file(path):
        pass
    assert path.is_symlink()
