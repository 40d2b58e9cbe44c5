"""The wavelet transform against its naive twin, and by what its coefficients mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.signature.haar import coefficients
from tests import naive_signature

SIDE = 128


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([2, 16, 256]))
def test_coefficients_equal_the_naive_twin_to_the_bit(seed: int, levels: int) -> None:
    small = np.random.default_rng(seed).integers(0, levels, (SIDE, SIDE, 3)).astype(np.uint8)
    planes = coefficients(np.ascontiguousarray(np.moveaxis(small, 2, 0)))
    assert planes.tobytes() == np.array(naive_signature.coefficients(small)).tobytes()


@pytest.mark.parametrize(
    ("colour", "averages"),
    [
        ((255, 255, 255), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (0.299, 0.596, 0.212)),
        ((0, 255, 0), (0.587, -0.275, -0.523)),
        ((0, 0, 255), (0.114, -0.321, 0.311)),
    ],
)
def test_the_first_coefficient_is_the_mean_colour_in_yiq(
    colour: tuple[int, int, int], averages: tuple[float, float, float]
) -> None:
    small = np.empty((3, SIDE, SIDE), np.uint8)
    small[:] = np.array(colour, np.uint8)[:, None, None]
    planes = coefficients(small)
    # The scale is 255 / 256, less what the literal 0.7071 for the root of one half leaves out.
    assert np.allclose(planes[:, 0, 0], np.array(averages) * 255 / 256, rtol=1e-3, atol=1e-9)
    rest = planes.copy()
    rest[:, 0, 0] = 0
    assert np.abs(rest).max() < 1e-9


def test_an_edge_down_the_middle_is_one_coefficient() -> None:
    small = np.zeros((3, SIDE, SIDE), np.uint8)
    small[:, :, : SIDE // 2] = 255
    luma = coefficients(small)[0]
    large = np.argwhere(np.abs(luma) > 1e-6)
    assert large.tolist() == [[0, 0], [0, 1]]
    assert luma[0, 1] > 0
