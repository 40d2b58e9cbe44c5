"""The signature of an image, equal to IQDB's to the bit.

Bytes of a file, or three colour channels, in; a `Signature` out. Knows no index, store, web or queue.
Called by whoever adds or queries images.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from iqdb_core.errors import InvalidChannels
from iqdb_core.model import CHANNELS, PLANE, SIDE, Signature
from iqdb_core.signature.decode import DecodeLimits, decode
from iqdb_core.signature.haar import coefficients
from iqdb_core.signature.resample import Shrinking
from iqdb_core.signature.select import signed_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DecodeLimits", "from_channels", "from_image_bytes", "warm_up"]

_DEFAULT_LIMITS = DecodeLimits()


def from_image_bytes(data: bytes, *, limits: DecodeLimits = _DEFAULT_LIMITS) -> Signature:
    """Return the signature of an image file."""
    picture = decode(data, limits)
    shrinking = Shrinking(picture.width, picture.height)
    for band in picture.bands:
        shrinking.add(band)
    return _from_small(shrinking.small())


def from_channels(red: Sequence[int], green: Sequence[int], blue: Sequence[int]) -> Signature:
    """Return the signature of a picture that is already 128 x 128."""
    small = np.empty((CHANNELS, PLANE), np.uint8)
    for n, channel in enumerate((red, green, blue)):
        try:
            values = np.asarray(channel)
        except ValueError as error:
            raise InvalidChannels(f"a channel is {PLANE} integers of 0..255") from error
        if (
            values.shape != (PLANE,)
            or values.dtype.kind not in "iu"
            or values.min() < 0
            or values.max() > 255
        ):
            raise InvalidChannels(f"a channel is {PLANE} integers of 0..255")
        small[n] = values
    return _from_small(small.reshape(CHANNELS, SIDE, SIDE))


def _from_small(small: NDArray[np.uint8]) -> Signature:
    planes = coefficients(small)
    y, i, q = (float(plane[0, 0]) for plane in planes)
    return Signature((y, i, q), signed_positions(planes).astype("<i2").tobytes())


def warm_up() -> None:
    """Compile or load the kernels, so that the first request does not wait for it."""
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(picture, "PNG")
    from_image_bytes(picture.getvalue())
