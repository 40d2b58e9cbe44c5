"""Damaged, lying and hostile files: each ends in an ImageError or a signature, in bounded time and memory."""

from __future__ import annotations

import random
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iqdb_core import errors
from iqdb_core.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedFormat
from iqdb_core.model import Signature
from iqdb_core.signature import from_image_bytes
from tests.fixtures import hostile
from tests.fixtures.hostile import outcome
from tests.fixtures.pictures import (
    DAMAGED_BUT_WHOLE,
    DAMAGED_HALF,
    IMAGES,
    bad_files,
    colours,
    encoded,
    format_files,
    picture,
)

RGB_PNG = (IMAGES / "formats" / "rgb.png").read_bytes()
RGB_JPEG = (IMAGES / "formats" / "rgb.jpg").read_bytes()


@pytest.mark.parametrize(("path", "name"), [pytest.param(*row, id=row[0].name) for row in bad_files()])
def test_bad_files_are_refused_by_name(path: Path, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        from_image_bytes(path.read_bytes())
    assert type(caught.value) is getattr(errors, name)


def test_every_file_of_the_bad_set_is_expected() -> None:
    expected = {path for path, _ in bad_files()} | {DAMAGED_BUT_WHOLE, DAMAGED_HALF}
    assert expected == set(DAMAGED_BUT_WHOLE.parent.iterdir())


def test_garbage_that_decodes_is_a_picture() -> None:
    assert isinstance(from_image_bytes(DAMAGED_BUT_WHOLE.read_bytes()), Signature)


# The pixel limit.


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA"]
)
def test_the_limit_is_exact_and_comes_before_decoding(image_format: str) -> None:
    image = colours(1, (50, 40))
    data = encoded(image.quantize(64) if image_format == "GIF" else image, image_format)
    assert isinstance(outcome(data, 2000), Signature)
    error = outcome(data, 1999)
    assert isinstance(error, ImageTooLarge)
    assert (error.pixels, error.max_pixels) == (2000, 1999)


@pytest.mark.parametrize(
    "data",
    [
        hostile.png(2**31 - 1, 2**31 - 1),
        hostile.png(100_000, 100_000),
        hostile.gif((65535, 65535), (0, 0, 1, 1)),
        hostile.gif((1, 1), (65000, 65000, 500, 500)),
        hostile.webp_with_canvas(16_384, 16_384),
        hostile.avif_with_size(30_000, 8_000),
        hostile.grey_tiff(60_000, 60_000, b"x"),
        b"P6 60000 60000 255\n",
        RGB_JPEG.replace(struct.pack(">HH", 293, 520), struct.pack(">HH", 65500, 65500)),
    ],
    ids=["png", "png 10 G", "gif canvas", "gif frame", "webp", "avif", "tiff", "pixmap", "jpeg"],
)
def test_headers_that_announce_too_much_are_refused_at_once(data: bytes) -> None:
    begin = time.thread_time()
    with pytest.raises(ImageTooLarge):
        from_image_bytes(data)
    assert time.thread_time() - begin < 0.5


def test_slow_decoders_have_a_lower_limit() -> None:
    large = bytearray(encoded(colours(1, (40, 30)), "JPEG2000", no_jp2=True))
    struct.pack_into(">2I", large, 8, 6000, 5000)
    with pytest.raises(ImageTooLarge, match="25,000,000"):
        from_image_bytes(bytes(large))


def test_no_side_is_too_long_for_the_time_it_takes() -> None:
    with pytest.raises(UnsupportedFormat, match="side"):
        from_image_bytes(hostile.png(1, 1_000_001))
    narrow = hostile.png(1, 1_000_000, b"\0a" * 1_000_000)
    assert isinstance(from_image_bytes(narrow), Signature)


@pytest.mark.parametrize(
    "data",
    [
        hostile.png(0, 5),
        hostile.png(5, 0),
        hostile.gif((0, 0), (0, 0, 0, 0)),
        hostile.grey_tiff(0, 0, b""),
        b"P6 0 9 255\n",
        RGB_JPEG.replace(struct.pack(">HH", 293, 520), struct.pack(">HH", 0, 520)),
    ],
)
def test_a_picture_without_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptImage):
        from_image_bytes(data)


# Files cut short, and files with something wrong in them.


def small_files() -> Iterator[tuple[str, bytes]]:
    """Return small good files of all kinds, some with orientation, transparency or several frames."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in format_files():
        if path.stat().st_size < 40_000:
            yield path.name, path.read_bytes()
    image = colours(1, (48, 32))
    frames = {"save_all": True, "append_images": [colours(2, (48, 32))]}
    for image_format in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        yield f"turned {image_format}", encoded(image, image_format, exif=exif)
    for image_format in ("GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"):
        yield f"frames {image_format}", encoded(image, image_format, **frames)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"tiff {compression}", encoded(image, "TIFF", compression=compression)
    for compression in ("group3", "group4"):
        yield f"tiff {compression}", encoded(image.convert("1"), "TIFF", compression=compression)
    yield "big tiff", encoded(image, "TIFF", big_tiff=True)
    yield "old icon", encoded(image, "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    yield "targa rle", encoded(image.convert("RGBA"), "TGA", compression="tga_rle")
    yield "targa palette", encoded(image.convert("P"), "TGA")


SMALL_FILES = dict(small_files())


@pytest.mark.parametrize("name", SMALL_FILES)
def test_files_cut_short_are_refused_or_read_as_far_as_they_go(name: str) -> None:
    """JPEG, PNG, GIF and WebP are read in part; of the others a cut after the picture may go unnoticed."""
    data = SMALL_FILES[name]
    refused = [
        isinstance(outcome(data[:length]), ImageError) for length in range(0, len(data), len(data) // 40 + 1)
    ]
    if data.startswith(b"\xff\xd8") or name == "frames PNG":
        return
    assert all(refused[: len(refused) // 3])
    if name.endswith(".avif") and "animated" not in name:
        assert all(refused)


@pytest.mark.parametrize("name", SMALL_FILES)
def test_flipped_bytes_end_in_an_error_or_a_picture(name: str) -> None:
    chance = random.Random(name)
    for _ in range(60):
        data = bytearray(SMALL_FILES[name])
        for _ in range(chance.choice((1, 2, 8))):
            end = min(len(data), chance.choice((40, 300, 100_000)))
            at = chance.randrange(end)
            data[at] = chance.choice((0, 1, 127, 128, 255, data[at] ^ 1 << chance.randrange(8)))
        outcome(bytes(data))


@pytest.mark.parametrize("box", [b"mvhd", b"tkhd", b"mdhd", b"stts", b"stsz", b"ispe"])
def test_numbers_of_an_animation_that_are_zero_end_in_an_error_or_a_picture(box: bytes) -> None:
    whole = (IMAGES / "formats" / "animated.avif").read_bytes()
    for found in re.finditer(box, whole):
        for at in range(found.end(), found.end() + 24):
            outcome(whole[:at] + bytes(4) + whole[at + 4 :])


@given(
    st.binary(max_size=400), st.sampled_from([data[:40] for data in SMALL_FILES.values()]), st.integers(0, 40)
)
def test_any_bytes_end_in_an_error_or_a_picture(tail: bytes, head: bytes, length: int) -> None:
    outcome(head[:length] + tail)


def test_a_wrong_checksum_elsewhere_than_in_the_picture_is_nothing() -> None:
    text = hostile.png_chunk(b"tEXt", b"a\0b")
    wrong = RGB_PNG[:33] + text[:-1] + bytes((text[-1] ^ 1,)) + RGB_PNG[33:]
    assert from_image_bytes(wrong) == from_image_bytes(RGB_PNG)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (hostile.PNG_MAGIC + hostile.png_chunk(b"IDAT", b""), "header"),
        (hostile.PNG_MAGIC + RGB_PNG[8:33] + hostile.png_chunk(b"IEND", b""), "no image data"),
        (b"GIF89a" + bytes(7) + b";", "no picture"),
        (b"\xff\xd8\xff\xd9", "no picture"),
        (b"\xff\xd8\xff\xda\0\2", "frame header"),
        (
            b"\xff\xd8" + RGB_JPEG[2:].replace(b"\xff\xda", b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\xff\xda"),
            "two frame",
        ),
        (b"RIFF\x08\0\0\0WEBPjunk", "begin with a picture"),
        (b"\0\0\1\0\0\0", "no picture"),
        (hostile.grey_tiff(4, 4, bytes(16), t322=(4, [65536]), t323=(4, [65536])), "tiles"),
        (hostile.grey_tiff(4, 4, bytes(16), t256=(3, [4, 4])), "is invalid"),
        (hostile.jpeg_in_tiff((400, 400), (40, 40)), "damaged"),
    ],
)
def test_damage_is_called_by_its_name(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptImage, match=reason):
        from_image_bytes(data)


def test_an_iso_media_file_that_is_no_avif_is_not_read() -> None:
    for brand in (b"qt  ", b"mp42", b"crx "):
        with pytest.raises(UnsupportedFormat, match="AVIF"):
            from_image_bytes(b"\0\0\0\x14ftyp" + brand + b"\0\0\0\0isom")


def test_an_icon_that_lies_about_its_picture_is_refused() -> None:
    data = bytearray(SMALL_FILES["old icon"])
    data[6 + 16 + 4 : 6 + 16 + 8] = struct.pack("<I", 5000)
    with pytest.raises(CorruptImage, match="size"):
        from_image_bytes(bytes(data))


def test_an_icon_may_hold_a_large_png_but_not_beyond_the_limit() -> None:
    inside = picture(1, (300, 200), "PNG")
    entry = struct.pack("<4B2H2I", 0, 0, 0, 0, 1, 32, len(inside), 22)
    icon = b"\0\0\1\0\1\0" + entry + inside
    assert outcome(icon) == from_image_bytes(inside)
    assert isinstance(outcome(icon, 59_999), ImageTooLarge)
