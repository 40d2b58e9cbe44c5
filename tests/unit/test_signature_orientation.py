"""EXIF orientation: a picture is the same whichever way the camera was held."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from iqdb_core.signature import from_image_bytes
from iqdb_core.signature.container.exif import orientation_of
from tests.fixtures.decoded import pixels
from tests.fixtures.pictures import IMAGES, colours, encoded

# What was done to the upright picture before it was stored, by orientation.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("image_format", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "L", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"big_tiff": True}),
        ("TIFF", "L", {"compression": "packbits"}),
    ],
)
def test_every_orientation_shows_the_upright_picture(
    orientation: int, image_format: str, mode: str, options: dict[str, object]
) -> None:
    upright = colours(1, (83, 47))
    if mode == "I;16":
        upright = Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) * 256)
    else:
        upright = upright.convert(mode)
    change = STORED[orientation]
    stored = upright if change is None else upright.transpose(change)
    data = encoded(stored, image_format, exif=with_orientation(orientation), **options)
    plain = encoded(upright, image_format, **options)
    assert np.array_equal(pixels(data), pixels(plain))
    assert from_image_bytes(data) == from_image_bytes(plain)


@pytest.mark.parametrize("orientation", STORED)
def test_jpeg_and_large_pictures_are_turned_like_pillow_turns_them(orientation: int) -> None:
    """Large enough for several bands, and for Pillow to keep it in several pieces."""
    data = encoded(colours(2, (2300, 2011)), "JPEG", exif=with_orientation(orientation))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(pixels(data), expected)


def test_the_eight_files_show_one_picture() -> None:
    shown = [pixels((IMAGES / "exif" / f"orientation_{n}.jpg").read_bytes()).astype(int) for n in range(1, 9)]
    for other in shown[1:]:
        assert np.abs(other - shown[0]).mean() < 4
    lumas = [
        set(
            from_image_bytes((IMAGES / "exif" / f"orientation_{n}.jpg").read_bytes())
            .signed_positions()[0]
            .tolist()
        )
        for n in range(1, 9)
    ]
    for other in lumas[1:]:
        assert len(other & lumas[0]) >= 36


@pytest.mark.parametrize("name", ["orientation_6.png", "orientation_6.webp"])
def test_png_and_webp_carry_it_too(name: str) -> None:
    with Image.open(IMAGES / "exif" / name) as image:
        width, height = image.size
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    shown = pixels((IMAGES / "exif" / name).read_bytes())
    assert shown.shape == (width, height, 3)
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("value", [0, 9, 99, 65535])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_impossible_values_are_ignored(value: int, image_format: str) -> None:
    image = colours(3, (60, 40))
    data = encoded(image, image_format, exif=with_orientation(value))
    assert np.array_equal(pixels(data), pixels(encoded(image, image_format)))


def test_avif_is_turned_by_its_own_properties() -> None:
    upright = colours(1, (96, 64))
    plain = pixels(encoded(upright, "AVIF", quality=95)).astype(int)
    for orientation, change in STORED.items():
        stored = upright if change is None else upright.transpose(change)
        data = encoded(stored, "AVIF", quality=95, exif=with_orientation(orientation))
        assert np.abs(pixels(data).astype(int) - plain).mean() < 4


def exif(entries: list[tuple[int, int, int, bytes]], order: str = "<", directory: int = 8) -> bytes:
    packed = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count) + value for tag, kind, count, value in entries
    )
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}I", directory) + struct.pack(f"{order}H", len(entries)) + packed


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_tag_is_found_in_either_byte_order(order: str) -> None:
    short = struct.pack(f"{order}HH", 6, 0)
    block = exif([(0x010F, 2, 4, b"abc\0"), (0x0112, 3, 1, short)], order)
    assert orientation_of(block) == 6
    assert orientation_of(b"Exif\0\0" + block) == 6
    assert orientation_of(exif([(0x0112, 4, 1, struct.pack(f"{order}I", 8))], order)) == 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"XX*\0\x08\0\0\0\0\0",
        exif([]),
        exif([(0x0112, 2, 1, b"\6\0\0\0")]),
        exif([(0x0112, 3, 2, b"\6\0\6\0")]),
        exif([(0x0112, 3, 1, b"\0\0\0\0")]),
        exif([(0x0112, 3, 1, b"\6\0\0\0")], directory=5000),
        exif([(0x0112, 3, 1, b"\6\0\0\0")])[:-8],
    ],
)
def test_a_block_without_a_valid_orientation_means_upright(block: bytes) -> None:
    assert orientation_of(block) == 1


@given(st.binary(max_size=200), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_any_bytes_mean_some_orientation(tail: bytes, head: bytes) -> None:
    assert orientation_of(head + tail) in range(1, 9)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_a_damaged_block_does_not_spoil_the_picture(image_format: str) -> None:
    image = colours(4, (60, 40))
    block = with_orientation(6)
    block[0x010F] = "maker"
    good = encoded(image, image_format, exif=block)
    at = max(good.find(b"II*\0"), good.find(b"MM\0*"))
    assert at > 0
    far_away = good[: at + 4] + b"\xff\xff\xff\xff" + good[at + 8 :]
    # AVIF is turned by properties of its own, the others are upright without EXIF.
    expected = good if image_format == "AVIF" else encoded(image, image_format)
    assert np.array_equal(pixels(far_away), pixels(expected))
