"""Which signature does an image have?

Bytes of a file, or three colour channels, in; a `Signature` out, equal to IQDB's to the bit. Knows no index, store,
web or queue. Called by whoever adds or queries images.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from iqdb_core.errors import InvalidChannels
from iqdb_core.model import CHANNELS, PLANE, SIDE, Signature
from iqdb_core.signature.decode import DecodeLimits, to_pixels
from iqdb_core.signature.haar import decompose, to_yiq
from iqdb_core.signature.resample import area_average
from iqdb_core.signature.select import largest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DecodeLimits", "from_channels", "from_image_bytes", "warm_up"]

_DEFAULT_LIMITS = DecodeLimits()


def from_image_bytes(data: bytes, *, limits: DecodeLimits = _DEFAULT_LIMITS) -> Signature:
    """Return the signature of an image file."""
    pixels = to_pixels(data, limits)
    if pixels.shape[:2] != (SIDE, SIDE):
        pixels = area_average(pixels)
    return _from_small(pixels)


def from_channels(red: Sequence[int], green: Sequence[int], blue: Sequence[int]) -> Signature:
    """Return the signature of a picture that is already 128 x 128."""
    small = np.empty((PLANE, CHANNELS), np.uint8)
    for n, channel in enumerate((red, green, blue)):
        try:
            values = np.asarray(channel)
        except ValueError as error:
            raise InvalidChannels(f"a channel is {PLANE} integers of 0..255") from error
        if values.shape != (PLANE,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
            raise InvalidChannels(f"a channel is {PLANE} integers of 0..255")
        small[:, n] = values
    return _from_small(small.reshape(SIDE, SIDE, CHANNELS))


def _from_small(small: NDArray[np.uint8]) -> Signature:
    planes = to_yiq(small)
    averages = []
    positions = []
    for plane in planes:
        decompose(plane)
        averages.append(float(plane[0, 0]))
        positions.append(largest(plane.reshape(-1)))
    return Signature(
        (averages[0], averages[1], averages[2]), np.concatenate(positions).astype("<i2").tobytes()
    )


def warm_up() -> None:
    """Compile or load the kernels, so that the first request does not wait for it."""
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(picture, "PNG")
    from_image_bytes(picture.getvalue())
