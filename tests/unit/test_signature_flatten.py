"""Pixels onto white: transparency and palettes, against the naive twin and Pillow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from iqdb_core.signature.flatten import look_up, on_white
from tests import naive_signature


def every_value_and_alpha() -> np.ndarray:
    """Return a (256, 256) picture: value down, alpha across, in all three channels."""
    value, alpha = np.meshgrid(
        np.arange(256, dtype=np.uint32), np.arange(256, dtype=np.uint32), indexing="ij"
    )
    pixels = value * np.uint32(0x010101) | alpha << np.uint32(24)
    pixels.flags.writeable = False
    return pixels


def test_every_value_and_alpha_equals_the_naive_twin() -> None:
    pixels = every_value_and_alpha()
    out = np.empty(pixels.shape, np.uint32)
    on_white(pixels, out)
    expected = [[naive_signature.on_white(value, alpha) for alpha in range(256)] for value in range(256)]
    for shift in (0, 8, 16):
        assert (out >> shift & 255).tolist() == expected
    assert not (out >> 24).any()


def test_channels_are_not_mixed_up() -> None:
    pixels = np.array([[0x80_30_20_10]], np.uint32)
    pixels.flags.writeable = False
    out = np.empty((1, 1), np.uint32)
    on_white(pixels, out)
    assert out[0, 0] == sum(
        naive_signature.on_white(value, 0x80) << shift for value, shift in ((0x10, 0), (0x20, 8), (0x30, 16))
    )


def test_the_rounding_is_that_of_pillow() -> None:
    pixels = every_value_and_alpha()
    out = np.empty(pixels.shape, np.uint32)
    on_white(pixels, out)
    image = Image.frombuffer("RGBA", (256, 256), pixels.tobytes(), "raw", "RGBA", 0, 1)
    white = Image.new("RGBA", image.size, "white")
    pillow = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    assert np.array_equal(out & 255, pillow[:, :, 0])


def test_indices_become_their_colours() -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    indices.flags.writeable = False
    colours = np.random.default_rng(1).integers(0, 2**32, 256, dtype=np.uint32)
    colours.flags.writeable = False
    out = np.empty((16, 16), np.uint32)
    look_up(indices, colours, out)
    assert np.array_equal(out.ravel(), colours)
