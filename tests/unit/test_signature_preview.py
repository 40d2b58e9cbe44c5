"""Pictures made from signatures: the inverse transform, and what a preview looks like."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iqdb_core import codec
from iqdb_core.model import Signature
from iqdb_core.signature import from_channels, from_image_bytes
from iqdb_core.signature.haar import coefficients
from iqdb_core.signature.preview import inverse, preview, preview_png
from tests import naive_preview
from tests.fixtures import pictures

SIDE = 128


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_the_inverse_equals_the_naive_twin_to_the_bit(seed: int) -> None:
    plane = np.random.default_rng(seed).normal(0, 500, (SIDE, SIDE))
    assert inverse(plane).tobytes() == np.array(naive_preview.inverse(plane.tolist())).tobytes()


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from([2, 16, 256]))
def test_the_inverse_gives_back_what_was_decomposed(seed: int, levels: int) -> None:
    small = np.random.default_rng(seed).integers(0, levels, (3, SIDE, SIDE)).astype(np.uint8)
    luma = np.tensordot([0.299, 0.587, 0.114], small.astype(np.float64), 1)
    # The literal 0.7071 cancels out, since the inverse divides by what the decomposition multiplied with.
    assert np.allclose(inverse(coefficients(small)[0]), luma, atol=1e-8)


@pytest.mark.parametrize("colour", [(255, 0, 0), (12, 200, 90), (0, 0, 0), (255, 255, 255), (90, 90, 90)])
def test_a_flat_picture_stays_flat_in_its_colour(colour: tuple[int, int, int]) -> None:
    shown = preview(from_image_bytes(pictures.flat(colour)))
    assert np.abs(shown.astype(int) - np.array(colour)).max() <= 1


def test_a_preview_looks_like_its_picture() -> None:
    photos = [path for path in pictures.photos() if path.suffix == ".jpg"][:24]
    shown = np.stack([preview(from_image_bytes(path.read_bytes())) for path in photos])
    small = np.stack([np.asarray(Image.open(path).resize((SIDE, SIDE))) for path in photos])
    n = len(photos)
    likeness = np.corrcoef(shown.reshape(n, -1), small.reshape(n, -1))[:n, n:]
    assert (likeness.argmax(axis=1) == np.arange(n)).mean() > 0.85
    assert np.median(np.diag(likeness)) > 0.6


def test_a_preview_has_the_structure_of_its_signature() -> None:
    signature = from_image_bytes(pictures.photos()[0].read_bytes())
    again = from_channels(*np.moveaxis(preview(signature), 2, 0).reshape(3, -1))
    kept, regained = signature.signed_positions()[0], again.signed_positions()[0]
    assert len(np.intersect1d(kept, regained)) >= 30
    assert again.averages == pytest.approx(signature.averages, abs=0.05)


def test_a_grey_signature_gives_a_grey_picture() -> None:
    grey = np.random.default_rng(1).integers(0, 256, SIDE * SIDE)
    shown = preview(from_channels(grey, grey, grey)).astype(int)
    assert np.abs(shown - shown[..., :1]).max() <= 1
    assert shown.std() > 5


def test_the_file_is_a_png_of_those_pixels() -> None:
    signature = from_image_bytes(pictures.picture(3))
    image = Image.open(io.BytesIO(preview_png(signature)))
    image.verify()
    decoded = np.asarray(Image.open(io.BytesIO(preview_png(signature))))
    assert np.array_equal(decoded, preview(signature))


@given(
    st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3),
    st.lists(st.integers(1, 16383).flatmap(lambda p: st.sampled_from([p, -p])), min_size=120, max_size=120),
)
def test_any_signature_from_outside_has_a_preview(averages: tuple[float, ...], positions: list[int]) -> None:
    signature = Signature(averages, np.array(positions, "<i2").tobytes())  # type: ignore[arg-type]
    assert codec.from_hash(codec.to_hash(signature)) == signature
    assert preview(signature).shape == (SIDE, SIDE, 3)
