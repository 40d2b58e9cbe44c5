"""Archives whose headers are not true: they end, and whatever comes after them goes in."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import threading
from typing import TYPE_CHECKING, Final

import pytest

from api.roles.command_parts.archive import MAX_HEADER_BYTES, MAX_PIECES
from api.roles.command_parts.gather import Item, Passed, gather

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANY: Final = "9" * 20
CONTENT: Final = b"x" * 700


def tar(*members: tuple[str, Mapping[str, str]]) -> bytes:
    """Return an archive of small members with these extended headers."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, headers in members:
            header = tarfile.TarInfo(name)
            header.size = len(CONTENT)
            header.pax_headers = dict(headers)
            archive.addfile(header, io.BytesIO(CONTENT))
    return made.getvalue()


def with_checksum(block: bytes) -> bytes:
    """Return a header with the checksum that it should have."""
    empty = block[:148] + b" " * 8 + block[156:]
    return empty[:148] + b"%06o\0 " % sum(empty) + empty[156:]


def header(kind: bytes, size: int) -> bytes:
    """Return one header of a kind."""
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def holes_that_go_on() -> bytes:
    """Return a header with holes, of the old kind, that promises another and is the last."""
    block = header(tarfile.GNUTYPE_SPARSE, 0)
    return with_checksum(block[:386] + b"0" * 96 + b"\1" + block[483:])


def gathered(path: Path, *more: Path, max_bytes: int = 10_000) -> tuple[list[Item], Passed]:
    passed = Passed()
    names = [str(path), *map(str, more)]
    items = gather(names, id_pattern=None, max_bytes=max_bytes, passed=passed, stopping=threading.Event())
    return list(items), passed


STRANGE: Final = {
    "a size as no file has it": (
        tar(("a.jpg", {"size": MANY})),
        "it is shorter than it says, or a member says a wrong size",
    ),
    "the same of what is no picture": (
        tar(("a.txt", {"size": MANY})),
        "it is shorter than it says, or a member says a wrong size",
    ),
    "a piece behind the end": (
        tar(("a.jpg", {"GNU.sparse.map": f"-{MANY},{MANY},0,100", "GNU.sparse.size": "100"})),
        "it is shorter than it says, or a member says a wrong size",
    ),
    "pieces that are no numbers": (tar(("a.jpg", {"GNU.sparse.map": "0,x"})), "it is damaged"),
    "pieces that are not there": (
        tar(("a.jpg", {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"})),
        "it is damaged",
    ),
    "holes that go on": (holes_that_go_on(), "it is damaged"),
    "headers of headers": (header(tarfile.GNUTYPE_LONGNAME, 0) * 2000, "it is damaged"),
    "a header that takes all memory": (
        header(tarfile.XHDTYPE, 1 << 32),
        f"a header has 4,294,967,296 bytes; the limit is {MAX_HEADER_BYTES:,}",
    ),
    "a compressed one of which only the first bytes are there": (b"\x1f\x8b\x08", "it is damaged"),
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_comes_after_a_strange_archive_goes_in(tmp_path: Path, kind: str, packed: type[bytes]) -> None:
    content, reason = STRANGE[kind]
    (tmp_path / "a.tar").write_bytes(content if kind.startswith("a compressed") else packed(content))
    (tmp_path / "good.jpg").touch()
    items, passed = gathered(tmp_path / "a.tar", tmp_path / "good.jpg")
    assert [item.picture for item in items] == [tmp_path / "good.jpg"]
    assert passed.unreadable[-1] == (
        str(tmp_path / "a.tar"),
        f"the archive cannot be read to its end: {reason}",
    )


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e999", "12.5"])
def test_a_time_that_is_none_costs_no_picture(tmp_path: Path, time: str) -> None:
    (tmp_path / "a.tar").write_bytes(tar(("a.jpg", {"mtime": time}), ("b.jpg", {})))
    items, passed = gathered(tmp_path / "a.tar")
    assert [item.picture for item in items] == [CONTENT, CONTENT]
    assert items[0].version == f"700 {12 if time == '12.5' else 0}"
    assert passed.unreadable == []


def test_a_name_with_a_zero_character_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(("a.jpg", {"path": "x\0y.jpg"}), ("b.jpg", {})))
    items, _ = gathered(tmp_path / "a.tar")
    assert [item.source for item in items] == [None, f"{tmp_path}/a.tar!b.jpg"]


def test_a_header_in_the_middle_that_is_none_is_not_the_end(tmp_path: Path) -> None:
    whole = tar(("a.jpg", {}), ("b.jpg", {}))
    (tmp_path / "a.tar").write_bytes(whole.replace(b"b.jpg", b"c.jpg"))
    items, passed = gathered(tmp_path / "a.tar")
    assert len(items) == 1
    assert passed.unreadable == [
        (str(tmp_path / "a.tar"), "the archive cannot be read to its end: bad checksum")
    ]


def test_an_archive_without_an_end_is_whole(tmp_path: Path) -> None:
    for packed in (bytes, gzip.compress):
        (tmp_path / "a.tar").write_bytes(packed(tar(("a.jpg", {}), ("b.jpg", {})).rstrip(b"\0") + bytes(324)))
        items, passed = gathered(tmp_path / "a.tar")
        assert (len(items), passed.unreadable) == (2, [])


def test_holes_are_filled_and_too_many_are_not(tmp_path: Path) -> None:
    few = {"GNU.sparse.map": "0,5,20,5", "GNU.sparse.size": "30"}
    # In the worst order: every byte is looked for in all of them.
    many = ",".join(f"{piece},1" for piece in range(MAX_PIECES * 2, -1, -1))
    (tmp_path / "a.tar").write_bytes(
        tar(("a.jpg", few), ("b.jpg", {"GNU.sparse.map": many, "GNU.sparse.size": "9000"}), ("c.jpg", {}))
    )
    items, passed = gathered(tmp_path / "a.tar")
    assert [item.picture for item in items] == [b"xxxxx" + bytes(15) + b"xxxxx" + bytes(5), CONTENT]
    assert passed.unreadable == [(f"{tmp_path}/a.tar!b.jpg", "it is stored in too many pieces")]


@pytest.mark.parametrize("name", ["b.jpg", "b.txt"])
def test_reading_over_ends_when_it_is_to_end(tmp_path: Path, name: str) -> None:
    large = tarfile.TarInfo(name)
    large.size = 1 << 42
    path = tmp_path / "a.tar"
    first = tarfile.TarInfo("a.jpg")
    first.size = 512
    path.write_bytes(first.tobuf() + bytes(512) + large.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 1 << 42)  # a hole, which takes an hour to read
    stopping, passed = threading.Event(), Passed()
    items = gather([str(path)], id_pattern=None, max_bytes=1000, passed=passed, stopping=stopping)
    assert next(items).picture == bytes(512)
    timer = threading.Timer(0.2, stopping.set)
    timer.start()
    assert list(items) == []
    timer.join()
    assert [reason for _, reason in passed.unreadable if "cannot be read" in reason] == []
