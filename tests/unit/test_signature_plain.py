"""The plain form of the signature's arithmetic agrees with the compiled one to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iqdb_core.signature import flatten, haar, plain, resample, select

sizes = st.one_of(st.integers(1, 300), st.sampled_from([127, 128, 129, 1_000]))


@settings(max_examples=60)
@given(width=sizes, height=sizes, seed=st.integers(0, 2**32 - 1), band=st.integers(1, 90))
def test_pictures_of_any_size_shrink_alike(width: int, height: int, seed: int, band: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2**32, (height, width), dtype=np.uint32)
    pixels.flags.writeable = False
    compiled, plainly = resample.Shrinking(width, height), plain.Shrinking(width, height)
    for top in range(0, height, band):
        compiled.add(pixels[top : top + band])
        plainly.add(pixels[top : top + band])
    assert (compiled.small() == plainly.small()).all()
    assert plainly.small().flags.c_contiguous


@pytest.mark.parametrize("length", [1, 100, 128, 16_384, 2**24 + 77, 50_000_000])
def test_spans_of_any_length_are_alike(length: int) -> None:
    first, stop, head, tail, which = resample.spans(length)
    spans, plain_which = plain.spans(length)
    assert list(zip(first.tolist(), stop.tolist(), head, tail, strict=True)) == spans
    assert (which == plain_which).all()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 256]))
def test_coefficients_and_kept_positions_are_alike(seed: int, levels: int) -> None:
    """Few levels make many coefficients equal: which of them are kept is up to the heap."""
    rng = np.random.default_rng(seed)
    small = (rng.integers(0, levels, (3, 128, 128)) * (255 // levels)).astype(np.uint8)
    if seed % 2:
        small = np.repeat(np.repeat(small[:, ::8, ::8], 8, axis=1), 8, axis=2)
    compiled = haar.coefficients(np.ascontiguousarray(small))
    planes = plain.coefficients(small)
    assert compiled.tobytes() == planes.tobytes()
    assert (select.signed_positions(compiled) == plain.signed_positions(planes)).all()


@given(st.integers(0, 2**32 - 1))
def test_pixels_are_flattened_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 2**32, (3, 17), dtype=np.uint32)
    indices = rng.integers(0, 256, (3, 17)).astype(np.uint8)
    colours = rng.integers(0, 2**32, 256, dtype=np.uint32)
    for array in (pixels, indices, colours):
        array.flags.writeable = False
    compiled, plainly = np.empty((3, 17), np.uint32), np.ones((3, 17), np.uint32)
    flatten.on_white(pixels, compiled)
    plain.on_white(pixels, plainly)
    assert (compiled == plainly).all()
    flatten.look_up(indices, colours, compiled)
    plain.look_up(indices, colours, plainly)
    assert (compiled == plainly).all()
