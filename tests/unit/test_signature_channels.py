"""A picture as three channels of 128 x 128 values, the way e621's client sends it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqdb_core.errors import InvalidChannels
from iqdb_core.model import PLANE
from iqdb_core.signature import from_channels, from_image_bytes
from tests.fixtures.pictures import colours, encoded

GOOD = [0] * PLANE


def test_channels_equal_the_same_picture_as_a_file() -> None:
    image = colours(1, (128, 128))
    expected = from_image_bytes(encoded(image, "PNG"))
    lists = [band.tobytes() for band in image.split()]
    assert from_channels(*(list(values) for values in lists)) == expected
    assert from_channels(*(tuple(values) for values in lists)) == expected
    for dtype in (np.uint8, np.int64):
        arrays = [np.frombuffer(values, np.uint8).astype(dtype) for values in lists]
        assert from_channels(*arrays) == expected


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [0] * (PLANE - 1),
        [0] * (PLANE + 1),
        [*GOOD[1:], -1],
        [*GOOD[1:], 256],
        [*GOOD[1:], 2**70],
        [*GOOD[1:], True],
        [*GOOD[1:], 1.0],
        [*GOOD[1:], None],
        [*GOOD[1:], "1"],
        [*GOOD[1:], [1]],
        [[0] * 128] * 128,
        [False] * PLANE,
        dict.fromkeys(range(PLANE), 0),
        "0" * PLANE,
        b"0",
        None,
        7,
        np.zeros((128, 128), np.uint8),
        np.zeros(PLANE, np.float64),
        np.zeros(PLANE, np.bool_),
        np.full(PLANE, 256),
        np.full(PLANE, -1),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_anything_else_is_refused(bad: object) -> None:
    for channels in ((bad, GOOD, GOOD), (GOOD, bad, GOOD), (GOOD, GOOD, bad)):
        with pytest.raises(InvalidChannels, match="16384"):
            from_channels(*channels)  # type: ignore[arg-type]


@given(st.integers(0, PLANE - 1), st.integers(-(2**70), 2**70))
def test_every_value_is_looked_at(position: int, value: int) -> None:
    channel = [7] * PLANE
    channel[position] = value
    if 0 <= value <= 255:
        from_channels(channel, GOOD, GOOD)
    else:
        with pytest.raises(InvalidChannels):
            from_channels(channel, GOOD, GOOD)
