"""Guesses of the pictures that a picture was cut out of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.model import CHANNELS, SIDE, QuerySignature, Signature
from iqdb_core.signature.turns import turned
from iqdb_core.signature.uncropping import uncropped
from tests import naive_signature


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_a_larger_picture_shows_the_picture_and_its_outermost_pixels(
    seed: int, width: int, height: int
) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (CHANNELS, SIDE, SIDE), dtype=np.uint8)
    found = [*uncropped(small, width, height)]
    assert len({place for place, _ in found}) > 4
    for place, larger in found:
        asked = QuerySignature(Signature((0.0, 0.0, 0.0), b""), place, size=(width, height))
        assert asked.is_uncropped
        assert asked.part_shown is None
        assert min(-place.x, -place.y, place.width + place.x - width, place.height + place.y - height) >= 0
        assert larger.shape == small.shape
        assert turned([asked, asked], "all,negative") == [asked, asked]
    for place, larger in uncropped(small, SIDE, SIDE):  # of this size, places are in pixels of `small`
        rows, columns = (
            np.clip(np.arange(first, first + length), 0, SIDE - 1)
            for first, length in ((place.y, place.height), (place.x, place.width))
        )
        pixels = np.moveaxis(small, 0, 2)[rows[:, None], columns]
        for x, y in ((0, 0), (5, 70), (64, 64), (127, 127)):
            assert tuple(larger[:, y, x]) == naive_signature.cell(pixels, x, y)
