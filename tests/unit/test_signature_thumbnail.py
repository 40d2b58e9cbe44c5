"""Small pictures of files: upright, in their shape, and within the limits of signatures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from iqdb_core.errors import ImageError, ImageTooLarge
from iqdb_core.signature import DecodeLimits, from_image_bytes
from iqdb_core.signature.picture import Picture
from iqdb_core.signature.thumbnail import _divided, thumbnail
from tests.fixtures import pictures

LIMITS = DecodeLimits()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((900, 600), (90, 60)),
        ((600, 900), (60, 90)),
        ((30, 20), (30, 20)),
        ((2000, 3), (90, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_longest_side_is_bounded_and_shapes_stay(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert opened(thumbnail(pictures.picture(1, size, "PNG"), 90, limits=LIMITS)).size == expected


@pytest.mark.parametrize("path", pictures.format_files(), ids=lambda path: path.name)
def test_whatever_can_be_searched_can_be_shown(path: object) -> None:
    data = path.read_bytes()  # type: ignore[attr-defined]
    small = thumbnail(data, 400, limits=LIMITS)
    shown, kept = from_image_bytes(small), from_image_bytes(data)
    assert shown.averages == pytest.approx(kept.averages, abs=0.02), "upright, on white, the first frame"


def test_a_thumbnail_is_upright() -> None:
    path = pictures.IMAGES / "exif" / "orientation_6.jpg"
    upright = pictures.IMAGES / "exif" / "orientation_1.jpg"
    turned, straight = (opened(thumbnail(file.read_bytes(), 100, limits=LIMITS)) for file in (path, upright))
    assert turned.size == straight.size
    assert np.abs(np.asarray(turned, int) - np.asarray(straight, int)).mean() < 12


@pytest.mark.parametrize(
    ("width", "height", "divisor"), [(7, 5, 1), (7, 5, 2), (12, 9, 3), (5, 11, 4), (3, 3, 9)]
)
def test_dividing_is_the_mean_of_squares(width: int, height: int, divisor: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 4)).astype(np.uint8)
    rows = pixels.view(np.uint32).reshape(height, width)
    bands = iter([rows[:2], rows[2:3], rows[3:]])
    small = _divided(Picture(width, height, bands), divisor)
    for y in range(-(-height // divisor)):
        for x in range(-(-width // divisor)):
            square = pixels[y * divisor : (y + 1) * divisor, x * divisor : (x + 1) * divisor, :3].reshape(
                -1, 3
            )
            n = len(square)
            assert small[y, x].tolist() == [(int(total) + n // 2) // n for total in square.sum(axis=0)]


@pytest.mark.parametrize(("path", "error"), pictures.bad_files(), ids=str)
def test_thumbnails_refuse_what_signatures_refuse(path: object, error: str) -> None:
    with pytest.raises(ImageError) as caught:
        thumbnail(path.read_bytes(), 100, limits=LIMITS)  # type: ignore[attr-defined]
    assert type(caught.value).__name__ == error


def test_the_limit_of_pixels_holds() -> None:
    with pytest.raises(ImageTooLarge):
        thumbnail(pictures.picture(1, (101, 100)), 50, limits=DecodeLimits(max_pixels=10_000))
