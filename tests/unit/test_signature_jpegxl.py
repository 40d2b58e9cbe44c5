"""JPEG XL: right pixels, the hash of the JPEG it was made from, and nothing decoded that is too large."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pillow_jxl import Encoder

from iqdb_core.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedFormat
from iqdb_core.signature import DecodeLimits, container, read_image
from iqdb_core.signature.decode import decode
from tests.fixtures.decoded import pixels
from tests.fixtures.pictures import IMAGES, colours


def encoded(mode: str, rows: np.ndarray, *, in_boxes: bool = False) -> bytes:
    """Return a JPEG XL without loss, but for `F`, which has none."""
    height, width = rows.shape[:2]
    return bytes(encoder(mode, in_boxes)(rows.tobytes(), width, height, jpeg_encode=False))


def encoder(mode: str, in_boxes: bool) -> Any:
    return Encoder(
        mode=mode,
        lossless=mode != "F",
        quality=90,
        decoding_speed=0,
        effort=1,
        use_container=in_boxes,
        use_original_profile=mode != "F",
        num_threads=0,
    )


@pytest.mark.parametrize("in_boxes", [False, True])
def test_a_jpeg_xl_keeps_its_colours(in_boxes: bool) -> None:
    rows = np.asarray(colours(2, (70, 40)))
    assert (pixels(encoded("RGB", rows, in_boxes=in_boxes)) == rows).all()


def test_grey_alpha_and_16_bits() -> None:
    rng = np.random.default_rng(4)
    grey = rng.integers(0, 256, (24, 30), dtype=np.uint8)
    assert (pixels(encoded("L", grey)) == grey[:, :, None]).all()
    alpha = np.stack([grey, np.where(grey > 99, 255, 0).astype(np.uint8)], axis=2)
    on_white = np.where(grey > 99, grey, 255)
    assert (pixels(encoded("LA", alpha)) == on_white[:, :, None]).all()
    assert (pixels(encoded("I;16", grey.astype(np.uint16) * 257)) == grey[:, :, None]).all()


@pytest.mark.parametrize("name", ["422", "444", "grey", "progressive", "restart_markers", "icc_srgb"])
def test_a_jpeg_xl_made_from_a_jpeg_has_its_hash(name: str) -> None:
    jpeg = (IMAGES / "formats" / f"{name}.jpg").read_bytes()
    data = bytes(encoder("RGB", in_boxes=True)(jpeg, 1, 1, jpeg_encode=True))
    assert read_image(data).signature == read_image(jpeg).signature


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000))
@example(256, 8)
@example(320, 256)
@example(1, 8193)
def test_the_size_is_read_before_anything_is_decoded(width: int, height: int) -> None:
    if width * height > 300_000:
        height = max(1, 300_000 // width)
    data = encoded("L", np.zeros((height, width), np.uint8))
    assert container.read(data).canvas == (width, height)
    with pytest.raises(ImageTooLarge):
        decode(data, DecodeLimits(max_pixels=width * height - 1))


def test_truncated_and_unsupported_files_are_refused() -> None:
    data = encoded("RGB", np.asarray(colours(1, (64, 64))), in_boxes=True)
    for end in (13, 20, 40, len(data) // 2, len(data) - 5):
        with pytest.raises(CorruptImage):
            read_image(data[:end])
    with pytest.raises(CorruptImage, match="no picture"):
        read_image(data[:12] + bytes(50))
    with pytest.raises(UnsupportedFormat, match="F pixels"):
        read_image(encoded("F", np.zeros((8, 8), np.float32)))


def test_flipped_bytes_are_read_or_refused() -> None:
    data = encoded("RGB", np.asarray(colours(1, (64, 64))))
    chance = random.Random(3)
    refused = 0
    for _ in range(300):
        flipped = bytearray(data)
        for _ in range(chance.choice((1, 2, 8))):
            flipped[chance.randrange(min(len(data), chance.choice((12, 300, 10_000))))] = chance.randrange(
                256
            )
        try:
            read_image(bytes(flipped), limits=DecodeLimits(max_pixels=4_000_000))
        except ImageError:
            refused += 1
    assert refused > 200
