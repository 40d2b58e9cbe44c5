"""Files that ask for more work than they are worth."""

from __future__ import annotations

import dataclasses
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from iqdb_core.errors import CorruptImage
from iqdb_core.model import Signature
from iqdb_core.signature import DecodeLimits, container, from_image_bytes
from tests.fixtures import hostile, programs
from tests.fixtures.hostile import outcome
from tests.fixtures.pictures import IMAGES, colours, encoded

ROOT = Path(__file__).parents[2]
RGB_PNG = (IMAGES / "formats" / "rgb.png").read_bytes()
RGB_JPEG = (IMAGES / "formats" / "rgb.jpg").read_bytes()


def test_a_jpeg_may_not_go_over_its_pixels_too_often() -> None:
    assert isinstance(from_image_bytes(hostile.jpeg_with_scans((64, 64), 400)), Signature)
    with pytest.raises(CorruptImage, match="600 scans"):
        from_image_bytes(hostile.jpeg_with_scans((64, 64), 600))
    thirty = hostile.jpeg_with_scans((1000, 1000), 30)
    assert isinstance(outcome(thirty, 2_000_000), Signature)
    with pytest.raises(CorruptImage, match="30 scans"):
        from_image_bytes(thirty, limits=DecodeLimits(max_pixels=1_000_000))


def test_scans_are_counted_in_files_without_an_end_too() -> None:
    data = hostile.jpeg_with_scans((64, 64), 30)
    for odd in (data[:-2] + b"\xff\x01" + data[-2:], data[:-2]):
        read = container.read(odd)
        assert read.scans == 30


def test_two_readings_of_a_size_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is known about which container and decoder differ; if there is one, it is refused."""
    still = container.read(RGB_PNG)
    monkeypatch.setattr(container, "read", lambda _: dataclasses.replace(still, canvas=(279, 157)))
    with pytest.raises(CorruptImage, match="contradicts"):
        from_image_bytes(RGB_PNG)


def test_what_follows_a_jpeg_is_not_counted_as_its_scans() -> None:
    data = hostile.jpeg_with_scans((64, 64), 20)
    followed = data + b"\xff\xda\0\2" * 5000
    assert from_image_bytes(followed) == from_image_bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (RGB_JPEG[:2] + b"\xff\xfe\0\2" * 70_000 + RGB_JPEG[2:], "pieces"),
        (RGB_PNG[:33] + hostile.png_chunk(b"tEXt", b"") * 70_000 + RGB_PNG[33:], "pieces"),
        (hostile.jpeg_with_tail(b"\xff\x01" * 70_000, progressive=True), "pieces"),
        ((IMAGES / "formats" / "still.avif").read_bytes() + b"\0\0\0\x08free" * 2000, "pieces"),
        (hostile.grey_tiff(9, 9, bytes(81), t273=(4, [8] * 70_000), t279=(4, [1] * 70_000)), "pieces"),
        (b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 70_000, "pieces"),
    ],
    ids=["jpeg", "png", "jpeg after a scan", "avif", "tiff", "gif"],
)
def test_a_file_may_not_be_in_too_many_pieces(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptImage, match=reason):
        from_image_bytes(data)


READ = """
import resource, sys
from pathlib import Path
from iqdb_core.errors import ImageError
from iqdb_core.signature import from_image_bytes, warm_up
warm_up()
spent = resource.getrusage(resource.RUSAGE_SELF)
limit = int(spent.ru_utime + spent.ru_stime) + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
try:
    from_image_bytes(Path(sys.argv[1]).read_bytes())
except ImageError:
    pass
"""
MOST_CPU_S = 20
FILL = b"\xff" * 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"P6" + b" " * 4000 + b"x", id="spaces in a pixmap"),
        pytest.param(b"\xff\xd8" + FILL + b"\0", id="fill bytes before a JPEG's segments"),
        pytest.param(hostile.jpeg_with_tail(FILL, progressive=True), id="fill bytes in a scan of averages"),
        pytest.param(hostile.jpeg_with_tail(FILL + b"\0\xff\xd9"), id="fill bytes in the only scan"),
        pytest.param(
            hostile.jpeg_with_tail(FILL + b"\0\xff\xd9", scan=-1, progressive=True, restart_marker_rows=1),
            id="fill bytes between restarts",
        ),
        pytest.param(hostile.jpeg_with_scan_headers(65_536), id="scan headers with 255 components"),
    ],
)
def test_few_bytes_do_not_take_minutes(data: bytes, tmp_path: Path) -> None:
    """In a process of its own, as a regular expression lets no other thread run; in time of the processor."""
    file = tmp_path / "file"
    file.write_bytes(data)
    read = programs.run(READ, file, MOST_CPU_S)
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize("progressive", [False, True])
def test_fill_bytes_between_scans_and_markers_change_nothing(*, progressive: bool) -> None:
    image = Image.effect_mandelbrot((200, 160), (-2, -1.2, 1, 1.2), 100).convert("RGB")
    for options in ({}, {"restart_marker_rows": 1}):
        data = encoded(image, "JPEG", progressive=progressive, **options)
        filled = b"".join(
            b"\xff" * 9 + piece if n else piece
            for n, piece in enumerate(re.split(rb"(?=\xff[\xc0-\xfe])", data))
            if n != 1
        )
        assert from_image_bytes(b"\xff\xd8" + filled) == from_image_bytes(data)


def test_a_scan_of_more_than_four_components_brings_nothing() -> None:
    """It is no scan: libjpeg reads no such header, and what looks like one is within something else."""
    data = encoded(colours(1, (64, 64)), "JPEG", progressive=True)
    cut = data[: data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)]
    assert container.read(cut).is_cut
    header = bytes((5, 1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 0, 63, 0))
    note = b"\xff\xda" + struct.pack(">H", 2 + len(header)) + header
    assert container.read(cut + b"\xff\xfe" + struct.pack(">H", 2 + len(note)) + note).is_cut


def test_many_descriptions_of_an_avif_cost_no_more_than_one() -> None:
    data = (IMAGES / "formats" / "still.avif").read_bytes()
    pixels = struct.pack(">I4s", 8 + 8_000_000, b"mdat") + bytes(8_000_000)
    spent = {}
    for boxes in (1, 990):
        begin = time.thread_time()
        read = container.read(data + struct.pack(">I4s", 8, b"meta") * boxes + pixels)
        spent[boxes] = time.thread_time() - begin
        assert len(read.data) == len(data) + 8 * boxes + len(pixels)
    assert spent[990] < 30 * max(spent[1], 0.005)


def test_every_exif_block_of_an_avif_is_hidden_and_nothing_else() -> None:
    head = (IMAGES / "formats" / "still.avif").read_bytes()
    head = head[: int.from_bytes(head[:4], "big")]
    boxes = [
        (b"meta", b"\0\0\0\0Exif.Exif"),
        (b"free", b"Exif"),
        (b"moov", b"Exif"),
        (b"meta", b"Exif"),
        (b"mdat", b"Exif"),
    ]

    def file(hidden: bytes) -> bytes:
        return head + b"".join(
            struct.pack(">I4s", 8 + len(content), name)
            + (content.replace(b"Exif", hidden) if name in {b"meta", b"moov"} else content)
            for name, content in boxes
        )

    assert container.read(file(b"Exif")).data == file(b"none")


def test_a_webp_may_not_be_in_too_many_pieces() -> None:
    data = (IMAGES / "exif" / "orientation_6.webp").read_bytes()
    body = data[12:30] + b"junk\0\0\0\0" * 70_000 + data[30:]
    with pytest.raises(CorruptImage, match="pieces"):
        from_image_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def test_an_orientation_of_the_wrong_kind_does_not_spoil_a_tiff() -> None:
    pixels = bytes(range(200))
    plain = from_image_bytes(hostile.grey_tiff(20, 10, pixels))
    assert from_image_bytes(hostile.grey_tiff(20, 10, pixels, t274=(3, [6, 6]))) == plain
    assert from_image_bytes(hostile.grey_tiff(20, 10, pixels, t274=(3, [6]))) != plain


def test_pages_of_a_tiff_must_come_to_an_end() -> None:
    good = hostile.grey_tiff(4, 4, bytes(16))
    directory = 8 + 16
    following = directory + 2 + 12 * 9
    assert struct.unpack_from("<I", good, following) == (0,)
    looped = good[:following] + struct.pack("<I", directory) + good[following + 4 :]
    with pytest.raises(CorruptImage, match="does not end"):
        from_image_bytes(looped)
    for place in (
        2**31,
        len(good) - 1,
        directory + 2,
    ):  # nowhere, at the very end, in the middle of something
        astray = good[:following] + struct.pack("<I", place) + good[following + 4 :]
        assert from_image_bytes(astray) == from_image_bytes(good)


def test_a_tiff_far_larger_than_memory_is_refused_even_where_python_counts_no_further() -> None:
    big = bytearray(encoded(colours(1, (9, 9)), "TIFF", big_tiff=True))
    big[8:16] = b"\xff" * 8
    with pytest.raises(CorruptImage):
        from_image_bytes(bytes(big))


MEASURE = """
import resource, sys
from pathlib import Path
from iqdb_core.errors import ImageError
from iqdb_core.signature import from_image_bytes, warm_up
warm_up()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    from_image_bytes(Path(sys.argv[1]).read_bytes())
except ImageError:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measured_mb(data: bytes, directory: Path) -> int:
    """Return by how much hashing a file raises a process's peak memory, in MB."""
    file = directory / "file"
    file.write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_text_that_inflates_is_never_inflated(tmp_path: Path) -> None:
    data = hostile.with_text_bomb(RGB_PNG)
    assert from_image_bytes(data) == from_image_bytes(RGB_PNG)
    assert measured_mb(data, tmp_path) < 20


def test_a_large_picture_is_in_memory_only_once(tmp_path: Path) -> None:
    """20 megapixels at 4 bytes, and at 1 byte where there are only so many colours."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = encoded(Image.new("RGB", (5000, 4000), (9, 99, 200)), "JPEG", exif=exif)
    assert measured_mb(colour, tmp_path) < 100
    palette = encoded(Image.new("P", (5000, 4000)), "PNG")
    assert measured_mb(palette, tmp_path) < 40


def test_a_canvas_much_larger_than_its_frame_costs_little(tmp_path: Path) -> None:
    assert measured_mb(hostile.gif((9000, 9000), (10, 10, 2, 1)), tmp_path) < 20
