"""WebPs that are cut: the rows that are there, white for the others, and nothing made up."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iqdb_core.errors import CorruptImage, ImageError
from iqdb_core.signature import read_image
from iqdb_core.signature.decode import decode
from iqdb_core.signature.picture import DecodeLimits
from tests.fixtures.pictures import IMAGES, colours, encoded

KINDS = {
    "lossy": encoded(colours(4, (150, 200)), "WEBP", quality=80),
    "lossless": encoded(colours(4, (90, 120)), "WEBP", lossless=True),
    "noisy": encoded(colours(5, (130, 190)), "WEBP", quality=95),
    "turned": (IMAGES / "exif" / "orientation_6.webp").read_bytes(),
}


def rows_of(data: bytes) -> tuple[np.ndarray, bool]:
    """Return the decoded (height, width, 3) picture, and whether it is called damaged."""
    shown = decode(data, DecodeLimits())
    rows = np.concatenate([band.copy() for band in shown.bands])
    return rows.view(np.uint8).reshape(shown.height, shown.width, 4)[:, :, :3], shown.is_damaged


@pytest.mark.parametrize("percent", [75, 85, 95, 99])
@pytest.mark.parametrize("name", ["lossy", "lossless", "noisy"])
def test_rows_that_are_there_are_right_and_the_others_white(name: str, percent: int) -> None:
    data = KINDS[name]
    whole, is_damaged = rows_of(data)
    assert not is_damaged
    cut, is_damaged = rows_of(data[: len(data) * percent // 100])
    assert is_damaged
    there = next((row for row in range(len(cut)) if (cut[row:] == 255).all()), len(cut))
    assert (cut[:there] == whole[:there]).all()
    assert len(cut) // 2 <= there < len(cut)


def test_where_a_lossless_one_is_cut_does_not_matter() -> None:
    """Behind some places most fillings make no sense to the decoder."""
    image = Image.open(IMAGES / "photos" / "lomiri-wallpapers-20.04__Painting-Colors_by__herobrine7gamer.jpg")
    image.thumbnail((160, 160))
    data = encoded(image.convert("RGB"), "WEBP", lossless=True)
    for permille in range(600, 1000, 10):
        assert read_image(data[: len(data) * permille // 1000]).is_damaged


@pytest.mark.parametrize("name", KINDS)
def test_less_than_half_of_the_rows_is_refused(name: str) -> None:
    for percent in (1, 10, 25):
        with pytest.raises(CorruptImage):
            read_image(KINDS[name][: len(KINDS[name]) * percent // 100 + 20])


def test_transparency_that_is_whole_is_kept() -> None:
    image = colours(6, (90, 120)).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, "WEBP", quality=80)
    whole, _ = rows_of(data)
    cut, is_damaged = rows_of(data[: len(data) - (len(data) - data.index(b"VP8 ")) // 5])
    assert is_damaged
    assert (cut[:60] == whole[:60]).all()
    with pytest.raises(CorruptImage):
        read_image(data[: data.index(b"VP8 ") - 2])


def test_what_follows_the_pixels_may_be_missing() -> None:
    data = KINDS["turned"]
    at = data.index(b"EXIF")
    cut, is_damaged = rows_of(data[: at + 3])
    assert is_damaged
    assert (np.rot90(cut, -1) == rows_of(data)[0]).all()  # upright only with its EXIF


def test_animations_that_are_cut_are_refused() -> None:
    data = (IMAGES / "formats" / "animated.webp").read_bytes()
    with pytest.raises(CorruptImage, match="cut short"):
        read_image(data[:-4])


def test_a_size_that_lies_costs_nothing() -> None:
    data = bytearray(KINDS["lossless"][:600])
    struct.pack_into("<I", data, 4, 0xFFFFFFF0)
    struct.pack_into("<I", data, 16, 0xFFFFFFE0)
    with pytest.raises(CorruptImage):
        read_image(bytes(data))


@given(
    st.sampled_from(sorted(KINDS)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_any_cut_and_any_changed_bytes_end_in_a_signature_or_an_error(
    name: str, kept: float, flips: list[tuple[float, int]]
) -> None:
    altered = bytearray(KINDS[name][: 1 + int(kept * len(KINDS[name]))])
    for place, value in flips:
        altered[int(place * (len(altered) - 1))] = value
    with contextlib.suppress(ImageError):
        read_image(bytes(altered), limits=DecodeLimits(max_pixels=1_000_000))
