"""Turned signatures against the signatures of turned pixels."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from iqdb_core.model import CHANNELS, PLANE, SIDE, QuerySignature, Rectangle, Signature
from iqdb_core.signature import from_channels, from_image_bytes
from iqdb_core.signature.haar import coefficients
from iqdb_core.signature.turns import Turn, turned, turned_signature
from tests.fixtures.pictures import encoded, photos

_PIXELS: Final = {
    Turn.NONE: lambda a: a,
    Turn.MIRROR: lambda a: a[:, :, ::-1],
    Turn.FLIP: lambda a: a[:, ::-1],
    Turn.ROTATE_90: lambda a: np.rot90(a, -1, (1, 2)),
    Turn.ROTATE_180: lambda a: a[:, ::-1, ::-1],
    Turn.ROTATE_270: lambda a: np.rot90(a, 1, (1, 2)),
    Turn.TRANSPOSE: lambda a: a.transpose(0, 2, 1),
    Turn.TRANSVERSE: lambda a: np.rot90(a.transpose(0, 2, 1), 2, (1, 2)),
}
"""What each turn does to (3, height, width) pixels."""


def _hash(small: NDArray[np.uint8]) -> Signature:
    red, green, blue = small.reshape(CHANNELS, PLANE)
    return from_channels(red, green, blue)


def _assert_same_but_for_ties(got: Signature, small: NDArray[np.uint8], *, rounding: float) -> None:
    """Positions that only one of the two keeps are as large as the smallest kept, or zero."""
    wanted = _hash(small)
    np.testing.assert_allclose(got.averages, wanted.averages, atol=1e-9)
    planes = coefficients(np.ascontiguousarray(small))
    for channel, (mine, theirs) in enumerate(
        zip(got.signed_positions().tolist(), wanted.signed_positions().tolist(), strict=True)
    ):
        assert len(set(mine)) == len(mine)
        assert mine == sorted(mine)
        flat = planes[channel].reshape(PLANE)
        least = min(abs(flat[abs(position)]) for position in theirs)
        for position in set(mine) ^ set(theirs):
            size = abs(flat[abs(position)])
            assert size == pytest.approx(least, abs=rounding)
        for position in set(mine) & set(theirs):
            assert (flat[abs(position)] > 0) == (position > 0)


@given(
    seed=st.integers(0, 2**32 - 1),
    turn=st.sampled_from(Turn),
    is_negative=st.booleans(),
    kind=st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_a_turned_signature_is_that_of_the_turned_pixels(
    seed: int, turn: Turn, is_negative: bool, kind: int
) -> None:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (CHANNELS, SIDE, SIDE), dtype=np.uint8)
    if kind == 1:  # large smooth patches: coarse coefficients count
        small = np.repeat(np.repeat(small[:, ::16, ::16], 16, 1), 16, 2)
    elif kind == 2:  # few values: many equal coefficients
        small = (small > 128).astype(np.uint8) * 255
    got = turned_signature(_hash(small), turn, is_negative=is_negative)
    pixels = np.ascontiguousarray(_PIXELS[turn](small))
    _assert_same_but_for_ties(got, 255 - pixels if is_negative else pixels, rounding=1e-6)


@pytest.mark.parametrize("turn", list(Turn))
def test_turned_photographs_keep_all_but_a_position_or_two(turn: Turn) -> None:
    for path in photos()[:6]:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((300, 300))
        pixels = np.asarray(picture).transpose(2, 0, 1)
        signature = from_image_bytes(_bmp(pixels))
        wanted = from_image_bytes(_bmp(_PIXELS[turn](pixels)))
        got = turned_signature(signature, turn)
        pairs = zip(got.signed_positions().tolist(), wanted.signed_positions().tolist(), strict=True)
        assert sum(len(set(mine) - set(theirs)) for mine, theirs in pairs) <= 3
        np.testing.assert_allclose(got.averages, wanted.averages, atol=1e-4)


@pytest.mark.parametrize("turn", list(Turn))
def test_the_inverse_undoes_a_turn(turn: Turn) -> None:
    signature = from_image_bytes(photos()[0].read_bytes())
    back = turned_signature(turned_signature(signature, turn), turn.inverse)
    np.testing.assert_array_equal(
        np.sort(back.signed_positions(), axis=1), np.sort(signature.signed_positions(), axis=1)
    )


def test_two_negatives_are_the_picture() -> None:
    signature = from_image_bytes(photos()[0].read_bytes())
    twice = turned_signature(
        turned_signature(signature, Turn.NONE, is_negative=True), Turn.NONE, is_negative=True
    )
    assert twice.positions == signature.positions
    np.testing.assert_allclose(twice.averages, signature.averages, atol=1e-12)


def test_what_is_asked_comes_first_and_its_turns_after_it() -> None:
    signature = from_image_bytes(photos()[0].read_bytes())
    asked = [
        QuerySignature(signature),
        *(QuerySignature(signature, Rectangle(0, 0, n, n)) for n in (1, 2, 3)),
    ]
    assert turned(asked, "none") == asked
    mirrored = turned(asked)
    assert mirrored[:4] == asked
    assert [(one.part, one.turn) for one in mirrored[4:]] == [(one.part, "mirror") for one in asked]
    assert turned(asked, "mirror") == mirrored
    every = turned(asked, "all")
    assert [one.turn for one in every if one.part is None] == [str(turn) for turn in Turn]
    assert sum(one.part == asked[2].part for one in every) == 8
    assert sum(one.part == asked[3].part for one in every) == 2
    negative = turned(asked, "mirror,negative")
    assert [one.turn for one in negative if one.part is None] == [
        "none",
        "mirror",
        "negative-none",
        "negative-mirror",
    ]
    for wrong in ("", "some", "negative", "all,all", "mirror,", "all,negative,negative"):
        with pytest.raises(ValueError, match="turns is none, mirror or all"):
            turned(asked, wrong)


def _bmp(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), "BMP")
