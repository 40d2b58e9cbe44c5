"""The 40 largest coefficients against the naive twin, with ties above all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from iqdb_core.signature.select import signed_positions
from tests import naive_signature

SIDE = 128


def kept(plane: NDArray[np.float64]) -> list[int]:
    """Return what the kernel keeps of one plane, given between two others."""
    other = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    return signed_positions(np.stack([other, plane, -other]))[1].tolist()


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 10, 1000]))
def test_planes_with_ties_equal_the_naive_twin(seed: int, levels: int) -> None:
    plane = np.random.default_rng(seed).integers(-levels, levels + 1, (SIDE, SIDE)).astype(np.float64)
    assert kept(plane) == naive_signature.signed_positions(plane.tolist())


@settings(max_examples=40)
@given(
    hnp.arrays(
        np.float64,
        (SIDE, SIDE),
        elements=st.floats(-1e6, 1e6),
        fill=st.sampled_from([0.0, -0.0, 1.0, -1.0]),
    )
)
def test_sparse_planes_equal_the_naive_twin(plane: NDArray[np.float64]) -> None:
    assert kept(plane) == naive_signature.signed_positions(plane.tolist())


def test_a_flat_plane_keeps_the_first_positions_as_negative() -> None:
    """What IQDB answers for a black picture: zero is not greater than zero."""
    assert kept(np.zeros((SIDE, SIDE))) == list(range(-40, 0))


def test_the_average_takes_no_part() -> None:
    plane = np.zeros((SIDE, SIDE))
    plane[0, 0] = 1e9
    assert kept(plane) == list(range(-40, 0))


def test_without_ties_the_largest_are_kept_with_their_signs() -> None:
    random = np.random.default_rng(3)
    plane = random.permutation(np.arange(1, SIDE * SIDE + 1)).astype(np.float64).reshape(SIDE, SIDE)
    plane *= random.choice([-1, 1], plane.shape)
    flat = plane.ravel().copy()
    flat[0] = 0
    largest = np.argsort(np.abs(flat))[-40:]
    assert kept(plane) == sorted(int(p) if flat[p] > 0 else -int(p) for p in largest)


def test_later_equals_do_not_replace_earlier_ones() -> None:
    plane = np.zeros((SIDE, SIDE))
    plane.ravel()[1:41] = 5
    plane.ravel()[5000:6000] = 5
    assert kept(plane) == list(range(1, 41))
