"""What `iqdb add` takes its arguments to mean."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from api.roles.people.gather import Item, Passed, count, gather
from iqdb_core.errors import ConfigError


def found(
    *arguments: object, pattern: str | None = None, max_bytes: int = 1000, passed: Passed | None = None
) -> list[Item]:
    compiled = None if pattern is None else re.compile(pattern)
    names = [str(argument) for argument in arguments]
    return list(gather(names, id_pattern=compiled, max_bytes=max_bytes, passed=passed or Passed()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/er/c.webp", ".git/d.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "pictures"


def test_a_folder_is_searched_whole_and_in_order(folder: Path) -> None:
    passed = Passed()
    items = found(folder, passed=passed)
    assert [Path(item.key).relative_to(folder).as_posix() for item in items] == [
        "a.JPG",
        "b.png",
        "deep/er/c.webp",
    ]
    assert {item.image_id for item in items} == {None}
    assert all(Path(item.key).is_absolute() and item.source == item.key for item in items)
    assert passed.other_files == 1


def test_a_file_named_by_itself_is_always_tried(folder: Path) -> None:
    assert [item.picture for item in found(folder / "notes.txt")] == [folder / "notes.txt"]


def test_patterns_are_understood_where_the_shell_did_not(folder: Path) -> None:
    assert [Path(item.key).name for item in found(folder / "**" / "*.webp")] == ["c.webp"]
    with pytest.raises(ConfigError, match="nothing matches"):
        found(folder / "*.bmp")


def test_what_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no file or folder"):
        found(folder / "missing.png")


def test_a_link_to_a_folder_is_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    assert len(found(folder)) == 3


def test_a_changed_file_has_another_version(folder: Path) -> None:
    before = found(folder / "b.png")[0].version
    (folder / "b.png").write_bytes(b"something else")
    assert found(folder / "b.png")[0].version != before


def test_ids_are_found_in_names(tmp_path: Path) -> None:
    (tmp_path / "post-0042-large.png").touch()
    assert [item.image_id for item in found(tmp_path, pattern=r"post-(\d+)")] == [42]
    assert [item.image_id for item in found(tmp_path, pattern=r"\d+")] == [42]
    (tmp_path / "other.png").touch()
    with pytest.raises(ConfigError, match=r"other\.png"):
        found(tmp_path, pattern=r"post-(\d+)")


def test_members_of_an_archive_come_with_their_bytes(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "all")
    passed = Passed()
    items = found(archive, passed=passed)
    assert {item.key.partition("!")[2]: item.picture for item in items} == {
        "all/a.JPG": b"a.JPG",
        "all/b.png": b"b.png",
        "all/deep/er/c.webp": b"deep/er/c.webp",
        "all/.git/d.png": b".git/d.png",
    }
    assert passed.other_files == 1
    assert passed.unreadable is None


def test_an_archive_that_is_cut_short_gives_what_it_has(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "a.JPG", "a.JPG")
        (folder / "b.png").write_bytes(bytes(5000))
        tar.add(folder / "b.png", "b.png")
    archive.write_bytes(archive.read_bytes()[:3000])
    passed = Passed()
    assert [item.picture for item in found(archive, passed=passed, max_bytes=10_000)][:1] == [b"a.JPG"]
    assert passed.unreadable is not None
    assert "cannot be read to its end" in passed.unreadable[0][1]


def test_a_member_larger_than_the_limit_is_noted(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    (folder / "b.png").write_bytes(bytes(2000))
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "b.png", "b.png")
    passed = Passed()
    assert found(archive, passed=passed) == []
    assert passed.unreadable is not None
    assert "2,000 bytes" in passed.unreadable[0][1]


def test_lists_name_ids_and_files(folder: Path, tmp_path: Path) -> None:
    rows = [(7, "pictures/a.JPG", "https://example.org/7"), (9, "pictures/b.png", None)]
    (tmp_path / "list.csv").write_text(
        "post_id,path,source\n"
        + "".join(f"{number},{file},{source or ''}\n" for number, file, source in rows)
    )
    (tmp_path / "list.ndjson").write_text(
        "\n".join(json.dumps({"id": number, "file": file, "source": source}) for number, file, source in rows)
    )
    for name in ("list.csv", "list.ndjson"):
        first, second = found(tmp_path / name)
        assert (first.image_id, first.source) == (7, "https://example.org/7")
        assert (second.image_id, second.source) == (9, str(folder / "b.png"))
        assert isinstance(second.picture, Path)
        assert second.picture.read_bytes() == b"b.png"


def test_one_file_may_have_several_ids_in_a_list(folder: Path, tmp_path: Path) -> None:
    assert folder.is_dir()
    (tmp_path / "list.csv").write_text("id,file\n1,pictures/a.JPG\n2,pictures/a.JPG\n")
    first, second = found(tmp_path / "list.csv")
    assert first.key != second.key


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.csv", "id,file\nx,a.png\n", "line 2: 'id'"),
        ("list.csv", "id,file\n-1,a.png\n", "line 2: 'id'"),
        ("list.csv", f"id,file\n{2**63},a.png\n", "line 2: 'id'"),
        ("list.csv", "id,name\n1,a.png\n", "line 2: 'file'"),
        ("list.ndjson", '{"id": 1, "file": "a.png"}\n[]\n', "line 2: not an object"),
        ("list.ndjson", "nothing\n", "line 1: not JSON"),
        ("list.ndjson", '{"id": 1, "file": 2}\n', "line 1: 'file'"),
        ("list.ndjson", '{"id": 1, "file": ["a.png"]}\n', "line 1: 'file'"),
        ("list.csv", "id,file\n" + "9" * 5000 + ",a.png\n", "line 2: 'id'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        found(tmp_path / name)


def test_a_list_in_another_encoding_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("id,file\n1,ä.png\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        found(tmp_path / "list.csv")


def test_as_many_are_counted_as_are_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,file\n" + "".join(f"{n},{folder / 'b.png'}\n" for n in range(7)))
    arguments = [str(folder), str(folder / "notes.txt"), str(tmp_path / "list.csv"), str(folder / "*.png")]
    assert count(arguments) == len(found(*arguments)) == 3 + 1 + 7 + 1


def test_what_only_reading_tells_is_not_counted(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder / "b.png", "b.png")
    (tmp_path / "broken.csv").write_text("no list\nat all\n")
    for argument in ("all.tar", "broken.csv", "*.tar"):
        assert count([str(folder), str(tmp_path / argument)]) is None
    assert count([str(tmp_path / "missing")]) == 0
