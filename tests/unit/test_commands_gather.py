"""What `iqdb add` takes its arguments to mean."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from api.roles.command_parts.gather import Item, Passed, count, gather
from iqdb_core.errors import ConfigError
from tests.fixtures import pictures


def found(
    *arguments: object, pattern: str | None = None, max_bytes: int = 1000, passed: Passed | None = None
) -> list[Item]:
    compiled = None if pattern is None else re.compile(pattern)
    names = [str(argument) for argument in arguments]
    return list(
        gather(
            names,
            id_pattern=compiled,
            max_bytes=max_bytes,
            passed=passed or Passed(),
            stopping=threading.Event(),
        )
    )


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
    assert passed.left_out_folders == 1


def test_a_file_named_by_itself_is_always_tried(folder: Path) -> None:
    assert [item.picture for item in found(folder / "notes.txt")] == [folder / "notes.txt"]


def test_patterns_are_understood_where_the_shell_did_not(folder: Path) -> None:
    assert [Path(item.key).name for item in found(folder / "**" / "*.webp")] == ["c.webp"]
    with pytest.raises(ConfigError, match="nothing matches"):
        found(folder / "*.bmp")


def test_a_pattern_finds_no_file_twice_through_a_linked_folder(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "b-link.png").symlink_to(folder / "b.png")
    assert [Path(item.key).name for item in found(folder / "**" / "*.png")] == ["b.png", "b-link.png"]
    assert [Path(item.key).name for item in found(folder / "loop" / "**" / "*.png")] == [
        "b.png",
        "b-link.png",
    ]
    assert [Path(item.key).name for item in found(folder / "loop" / "*.png")] == ["b.png"]


def test_what_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no file or folder"):
        found(folder / "missing.png")


def test_of_an_archive_that_is_not_read_it_is_said_what_helps(folder: Path) -> None:
    (folder / "a.ZIP").write_bytes(b"PK")
    passed = Passed()
    assert found(folder / "a.ZIP", passed=passed) == []
    assert passed.unreadable == [
        (str(folder / "a.ZIP"), "of archives only tar is read; unpack it, and add the folder")
    ]


def test_of_a_list_with_another_ending_it_is_said_what_helps(folder: Path) -> None:
    """As `iqdb export all.json` writes it; a whole run must not end for a `.json` beside each picture."""
    (folder / "all.json").write_text('{"post_id": 1, "hash": "iqdb_0"}\n')
    passed = Passed()
    assert [item.picture for item in found(folder / "*.*n*", passed=passed)] == [folder / "b.png"]
    ((name, reason),) = passed.unreadable
    assert (name, reason.endswith("must be called .ndjson")) == (str(folder / "all.json"), True)


def test_a_link_to_a_folder_is_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    passed = Passed()
    assert len(found(folder, passed=passed)) == 3
    assert passed.left_out_folders == 2


def test_a_changed_file_has_another_version(folder: Path) -> None:
    before = found(folder / "b.png")[0].version
    (folder / "b.png").write_bytes(b"something else")
    assert found(folder / "b.png")[0].version != before


def test_ids_are_found_in_names(tmp_path: Path) -> None:
    (tmp_path / "post-0042-large.png").touch()
    assert [item.image_id for item in found(tmp_path, pattern=r"post-(\d+)")] == [42]
    assert [item.image_id for item in found(tmp_path, pattern=r"\d+")] == [42]


@pytest.mark.parametrize("pattern", [r"post-(\d+)", r"post-(\d+)|other"])
def test_names_without_an_id_are_listed_and_the_others_go_on(tmp_path: Path, pattern: str) -> None:
    for name in ("a.png", "other.png", "post-7.png"):
        (tmp_path / name).touch()
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path / "other.png", "other.png")
        archive.add(tmp_path / "post-7.png", "post-8.png")
    passed = Passed()
    items = found(tmp_path, tmp_path / "all.tar", pattern=pattern, passed=passed)
    assert [item.image_id for item in items] == [7, 8]
    unreadable = {(Path(name).name, reason) for name, reason in passed.unreadable}
    assert unreadable == {
        (name, "no id was found in its name") for name in ("a.png", "other.png", "all.tar!other.png")
    }


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
    assert passed.unreadable == []


def test_an_archive_that_is_cut_short_gives_what_it_has(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "a.JPG", "a.JPG")
        (folder / "b.png").write_bytes(bytes(5000))
        tar.add(folder / "b.png", "b.png")
    archive.write_bytes(archive.read_bytes()[:3000])
    passed = Passed()
    assert [item.picture for item in found(archive, passed=passed, max_bytes=10_000)][:1] == [b"a.JPG"]
    assert "cannot be read to its end" in passed.unreadable[0][1]


def test_a_member_larger_than_the_limit_is_noted(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar"
    (folder / "b.png").write_bytes(bytes(2000))
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "b.png", "b.png")
    passed = Passed()
    assert found(archive, passed=passed) == []
    assert "2,000 bytes" in passed.unreadable[0][1]


def test_a_file_larger_than_the_limit_is_noted(folder: Path, tmp_path: Path) -> None:
    (folder / "b.png").write_bytes(bytes(2000))
    (tmp_path / "list.csv").write_text("id,file\n7,pictures/b.png\n")
    for arguments, others in (((folder,), 2), ((folder / "b.png",), 0), ((tmp_path / "list.csv",), 0)):
        passed = Passed()
        assert len(found(*arguments, passed=passed)) == others
        reason = "it has 2,000 bytes; the limit is 1,000 (--max-upload-bytes)"
        assert passed.unreadable == [(str(folder / "b.png"), reason)]


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
    assert first.name == second.name == str(folder / "a.JPG")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.csv", "id,file\nx,a.png\n", "line 2: 'id'"),
        ("list.csv", "id,file\n-1,a.png\n", "line 2: 'id'"),
        ("list.csv", f"id,file\n{2**63},a.png\n", "line 2: 'id'"),
        ("list.csv", "id,name\n1,a.png\n", "line 1: a list begins with the names of its columns: id"),
        ("list.csv", "1,a.png\n2,b.png\n", "line 1: a list begins with the names of its columns: id"),
        ("list.csv", "file,source\na.png,b\n", "line 1: a list begins with the names of its columns: id"),
        ("list.csv", "", "line 1: a list begins with the names of its columns: id"),
        ("list.csv", "id,file\n1,\n", "line 2: 'file' names a file, or 'hash'"),
        ("list.csv", f"id,file,source\n1,a.png,{'x' * 2001}\n", "line 2: 'source' is text of at most 2000"),
        ("list.ndjson", '{"id": 1, "file": "a.png", "source": "\\u0000"}\n', "line 1: 'source'"),
        ("list.ndjson", '{"id": 1, "file": "a.png", "source": "\\ud800"}\n', "line 1: 'source'"),
        ("list.ndjson", '{"id": 1, "hash": "iqdb_12"}\n', "line 1: 'hash' is invalid: "),
        ("list.ndjson", '{"id": 1, "hash": 12}\n', "line 1: 'hash' is invalid: "),
        ("list.ndjson", '{"id": 1, "file": "a.png"}\n[]\n', "line 2: not an object"),
        ("list.ndjson", "nothing\n", "line 1: not JSON"),
        ("list.ndjson", "[" * 100_000, "line 1: not JSON"),
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


def test_a_list_that_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "list.csv").symlink_to(
        "/proc/self/mem"
    )  # a regular file, of which the first byte is an error
    with pytest.raises(ConfigError, match=r"list\.csv cannot be read: Input/output error"):
        found(tmp_path / "list.csv")
    assert count([str(tmp_path / "list.csv")]) is None


def test_a_note_takes_no_longer_where_there_are_many() -> None:
    passed = Passed()
    for number in range(400_000):
        passed.note(str(number), "no id was found in its name")
    assert len(passed.unreadable) == 400_000


@pytest.mark.parametrize("how", ["folder", "pattern", "list"])
def test_nothing_more_is_looked_through_when_it_is_to_end(tmp_path: Path, how: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "list.csv").write_text("id,file\n" + "".join(f"{n},{n}.png\n" for n in range(3)))
    arguments: dict[str, list[object]] = {
        "folder": [tmp_path, tmp_path],
        "pattern": [tmp_path / "*.png"],
        "list": [tmp_path / "list.csv"],
    }
    stopping = threading.Event()
    items = gather(
        list(map(str, arguments[how])), id_pattern=None, max_bytes=1000, passed=Passed(), stopping=stopping
    )
    assert Path(next(items).source or "").name == "0.png"
    stopping.set()
    assert list(items) == []


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


def test_lists_name_hashes(tmp_path: Path) -> None:
    _, known = pictures.golden()[0]
    (tmp_path / "list.csv").write_text(f" Post_ID ,hash,source\n7,{known},a\n8,{known.upper()[5:]},\n")
    (tmp_path / "list.ndjson").write_text(
        json.dumps({"post_id": 7, "hash": known, "source": "a"})
        + "\n"
        + json.dumps({"post_id": 8, "hash": known})
    )
    for name in ("list.csv", "list.ndjson"):
        items = found(tmp_path / name)
        assert [(one.image_id, one.picture, one.source) for one in items] == [
            (7, known, "a"),
            (8, known, None),
        ]
        assert len({one.key for one in items}) == 2
    version = items[0].version
    (tmp_path / "list.csv").write_text(f"id,hash,source\n7,{known},b\n")
    assert found(tmp_path / "list.csv")[0].version != version, "another source is a change"


def nothing_to_read(folder: Path) -> dict[str, str]:
    """Make what has the name of a picture and is no file, and return what is wrong with each."""
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "list.csv")
    listener = socket.socket(socket.AF_UNIX)
    # The path of a socket may have 107 characters.
    with contextlib.chdir(folder), contextlib.closing(listener):
        listener.bind("socket.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "linked-pipe.jpg").symlink_to(folder / "pipe.jpg")
    return {
        "pipe.jpg": "it is a named pipe",
        "socket.jpg": "it is a socket",
        "gone.jpg": "it is a link to nothing",
        "circle.jpg": "Too many levels of symbolic links",
        "device.jpg": "it is a device",
        "linked-pipe.jpg": "it is a named pipe",
    }


@pytest.mark.parametrize("how", ["folder", "names", "pattern", "list"])
def test_what_is_no_regular_file_is_listed_and_never_opened(tmp_path: Path, how: str) -> None:
    wrong = nothing_to_read(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "good.jpg").touch()
    names = [*wrong, "good.jpg"]
    rows = "".join(f"{number},{name}\n" for number, name in enumerate([*names, "folder.jpg"]))
    (tmp_path / "all.csv").write_text(f"id,file\n{rows}")
    arguments: dict[str, list[object]] = {
        "folder": [tmp_path],
        "names": [tmp_path / name for name in [*names, "list.csv"]],
        "pattern": [tmp_path / "*.jpg"],
        "list": [tmp_path / "all.csv"],
    }
    if how == "names":
        wrong["list.csv"] = "it is a named pipe"
    if how == "list":
        wrong["folder.jpg"] = "it is a folder"
    passed = Passed()
    items = found(*arguments[how], passed=passed)
    assert [Path(item.source or "").name for item in items] == ["good.jpg"]
    assert {Path(name).name: reason for name, reason in passed.unreadable} == wrong
    assert count(list(map(str, arguments[how]))) is not None


def test_names_that_are_not_utf_8_are_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"stra\xdfe.png")
    (tmp_path / name).write_bytes(b"x")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path / name, name)
    file, member = found(tmp_path, tmp_path / "all.tar")
    assert file.source == str(tmp_path / "stra\N{REPLACEMENT CHARACTER}e.png")
    assert member.source == f"{tmp_path}/all.tar!stra\N{REPLACEMENT CHARACTER}e.png"
    assert isinstance(file.picture, Path)
    assert file.picture.read_bytes() == b"x"


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-this-name", "iqdb_" + "0" * 528])
def test_words_that_no_file_can_be_called_are_told(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no file or folder"):
        found(name)
    assert not count([name])


def test_a_path_too_long_to_be_kept_has_no_source(tmp_path: Path) -> None:
    place = tmp_path
    while len(str(place)) < 2000:
        place /= "d" * 200
    place.mkdir(parents=True)
    (place / "a.png").touch()
    (item,) = found(tmp_path)
    assert item.source is None
