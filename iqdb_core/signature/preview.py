"""A soft picture made from a signature: its mean colour, and the places and signs of 120 coefficients.

The inverse of `haar`, with typical magnitudes, which a signature does not contain. It shows what the search
sees, and replaces a thumbnail where there is none.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE, Signature
from iqdb_core.signature.container.png import MAGIC, chunk

_SHRINK: Final = 0.7071
_AVERAGE_SCALE: Final = 256 * SIDE
_TO_YIQ: Final = np.array([[0.299, 0.587, 0.114], [0.596, -0.275, -0.321], [0.212, -0.523, 0.311]])
_TO_RGB: Final = np.linalg.inv(_TO_YIQ)

_MAGNITUDES: Final = np.array(
    [
        [1115.0, 632.0, 455.0, 411.0, 387.0, 347.0, 392.0],
        [409.0, 247.0, 197.0, 170.0, 139.0, 143.0, 217.0],
        [169.0, 103.0, 71.0, 60.0, 43.0, 26.0, 7.0],
    ]
)
"""Medians of kept coefficients over the 53 photos of the tests, by channel and octave of max(row, column)."""

_FLAT: Final = np.arange(-KEPT, 0)
"""The positions of a channel without any detail: the first ones, none of them above 0."""


def preview(signature: Signature) -> NDArray[np.uint8]:
    """Return the picture of a signature.

    Parameters
    ----------
    signature : Signature
        Any valid one, including untrusted ones.

    Returns
    -------
    (128, 128, 3) uint8 ndarray
        Red, green and blue, stretched to a square as the search sees every picture. A grey signature
        gives a grey picture.
    """
    yiq = np.stack([inverse(plane) for plane in _filled(signature)], axis=-1)
    rgb = np.rint(yiq @ _TO_RGB.T)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def inverse(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the channel whose coefficients are given: what `haar.coefficients` was made from.

    Parameters
    ----------
    plane : (128, 128) float64 ndarray
        As `haar.coefficients` returns one channel; element (0, 0) is the average.

    Returns
    -------
    (128, 128) float64 ndarray
        Values as if from 0..255, as far as float64 rounds the same.
    """
    whole = plane.copy()
    whole[0, 0] *= _AVERAGE_SCALE
    columns_undone = _undo_columns(whole)
    return _undo_columns(columns_undone.T).T


def preview_png(signature: Signature) -> bytes:
    """Return `preview` as a PNG file of about 5 KB."""
    pixels = preview(signature)
    # Each row begins with its filter: 2 stores the difference to the row above, mostly 0 here.
    rows = np.empty((SIDE, 1 + 3 * SIDE), np.uint8)
    rows[:, 0] = 2
    flat = pixels.reshape(SIDE, 3 * SIDE)
    rows[0, 1:] = flat[0]
    rows[1:, 1:] = flat[1:] - flat[:-1]
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return MAGIC + b"".join(chunk(name, content) for name, content in parts)


def _filled(signature: Signature) -> NDArray[np.float64]:
    """Return (3, 128, 128) coefficients: the averages, and a usual magnitude wherever one was kept."""
    planes = np.zeros((CHANNELS, PLANE))
    for channel in range(1 if signature.is_grey else CHANNELS):
        kept = signature.signed_positions()[channel].astype(np.int64)
        if np.array_equal(np.sort(kept), _FLAT):
            continue
        places = np.abs(kept)
        largest = np.maximum(places // SIDE, places % SIDE)
        octaves = np.frexp(largest)[1] - 1
        planes[channel, places] = np.sign(kept) * _MAGNITUDES[channel, octaves]
    # Untrusted averages may have any size; beyond these limits everything is white or black anyway.
    planes[:, 0] = np.clip(signature.averages, -1.0, 1.0)
    if signature.is_grey:
        planes[1:, 0] = 0.0
    return planes.reshape(CHANNELS, SIDE, SIDE)


def _undo_columns(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the plane whose columns were decomposed into the given one."""
    factors = np.cumprod(np.full(SIDE.bit_length() - 1, _SHRINK))
    sums: NDArray[np.float64] = plane[:1] / factors[-1]
    for level in range(len(factors) - 1, -1, -1):
        half = len(sums)
        differences = plane[half : 2 * half] / factors[level]
        finer = np.empty((2 * half, SIDE))
        finer[0::2] = (sums + differences) / 2
        finer[1::2] = (sums - differences) / 2
        sums = finer
    return sums
