"""Resampling to 128 x 128 against its naive twin, in whatever bands a picture comes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from iqdb_core.signature.resample import Shrinking, edges, spans
from tests import naive_signature

SIDE = 128


def packed(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return (height, width, 3) pixels as the kernels take them, with something in the byte they ignore."""
    height, width = pixels.shape[:2]
    four = np.concatenate([pixels, np.full((height, width, 1), 0xA5, np.uint8)], axis=2)
    band = four.view("<u4").reshape(height, width)
    band.flags.writeable = False
    return band


def shrunk(pixels: NDArray[np.uint8], cuts: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """Return the (128, 128, 3) picture, fed in bands that end at the given rows."""
    height, width = pixels.shape[:2]
    shrinking = Shrinking(width, height)
    rows = packed(pixels)
    bounds = [0, *sorted({cut % (height + 1) for cut in cuts} - {0, height}), height]
    for top, bottom in itertools.pairwise(bounds):
        shrinking.add(rows[top:bottom])
    return np.moveaxis(shrinking.small(), 0, 2)


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=6)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
@example(1, 1, 0)
@example(2, 3, 0)
def test_small_pictures_equal_the_naive_twin_everywhere(width: int, height: int, seed: int) -> None:
    pixels = noise(width, height, seed)
    assert np.array_equal(shrunk(pixels), naive_signature.shrunk(pixels))


@settings(max_examples=60)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127)), min_size=10, max_size=20),
)
@example(500, 333, 1, [(x, 127) for x in range(0, 128, 8)])
@example(127, 129, 2, [(127, y) for y in range(0, 128, 8)])
@example(1, 700, 3, [(0, y) for y in range(0, 128, 8)])
@example(700, 1, 4, [(x, 0) for x in range(0, 128, 8)])
@example(640, 256, 5, [(1, 2), (127, 127)])
def test_larger_pictures_equal_the_naive_twin_at_samples(
    width: int, height: int, seed: int, cells: list[tuple[int, int]]
) -> None:
    pixels = noise(width, height, seed)
    small = shrunk(pixels)
    for x, y in cells:
        assert tuple(small[y, x]) == naive_signature.cell(pixels, x, y)


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(2, 300), st.lists(st.integers(0, 300), max_size=12))
def test_the_bands_a_picture_comes_in_do_not_matter(width: int, height: int, cuts: list[int]) -> None:
    pixels = noise(width, height)
    assert np.array_equal(shrunk(pixels, tuple(cuts)), shrunk(pixels))


def test_a_picture_of_the_right_size_is_used_as_it_is() -> None:
    pixels = noise(SIDE, SIDE)
    assert np.array_equal(shrunk(pixels), pixels)
    assert np.array_equal(shrunk(pixels, (1, 50, 51)), pixels)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("size", [(1, 1), (129, 127), (300, 1), (1, 300), (1000, 999)])
def test_a_flat_picture_stays_flat(value: int, size: tuple[int, int]) -> None:
    width, height = size
    assert (shrunk(np.full((height, width, 3), value, np.uint8)) == value).all()


@settings(max_examples=200)
@given(st.one_of(st.integers(1, 1000), st.integers(1, 1_000_000)))
@example(1)
@example(128)
@example(2**24 + 1)
@example(2**25 + 3)
@example(99_999_999)
def test_spans_lie_within_the_picture_and_are_told_apart(length: int) -> None:
    first, stop, head, tail, which = spans(length)
    assert first[0] == 0
    assert stop[-1] == length or length > 2**24  # where float32 rounds the last position away
    assert (first < stop).all()
    assert (stop <= length).all()
    assert (np.diff(first) >= 0).all()
    assert ((head > 0) & (head <= 1)).all()
    assert ((tail > 0) & (tail <= 1)).all()
    assert len(which) == SIDE
    assert (np.diff(which) >= 0).all()
    for output in range(0, SIDE, 9):
        if length > 20_000:
            break
        span = which[output]
        positions = naive_signature.covered(output, length)
        assert [place for place, _ in positions] == list(range(first[span], stop[span]))
        assert positions[0][1] == head[span]
        assert len(positions) == 1 or positions[-1][1] == tail[span]


@given(st.integers(1, 100_000))
def test_the_table_of_edges_covers_every_place_where_spans_differ(length: int) -> None:
    columns = spans(length)
    first, stop = columns[:2]
    overlaps, places = edges(columns)
    longest = (stop - first).max()
    last = longest - (len(overlaps) - 1)
    assert (places < length).all()
    for k in range(1, last):
        assert (first + k < stop - 1).all()  # nothing but whole pixels in between


def test_narrow_pictures_cost_no_more_than_their_pixels() -> None:
    for length in (1, 2, 3, 7, 64):
        assert len(spans(length)[0]) <= 3 * length
