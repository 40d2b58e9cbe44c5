"""Finds parts of a picture that may be pictures of their own: in borders, pages, screenshots, collages.

Cuts along flat rows and columns (the XY-cut of document analysis), peels borders one colour at a time, and
cuts along straight edges where nothing flat lies between. These are guesses: the search decides. Never
decodes and never hashes. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import Rectangle
from iqdb_core.signature.parts.arithmetic import contiguous, steps
from iqdb_core.signature.parts.box import Box
from iqdb_core.signature.parts.guesses import MAX_PARTS, find_boxes
from iqdb_core.signature.parts.sheet import MIN_SIDE

__all__ = ["MAX_PARTS", "find_parts"]

_MOST_PIXELS: Final = 600_000
"""Of larger pictures only every second (third, ...) pixel is examined; edges are then located exactly."""
_MOST_LONG: Final = 100
"""Pictures more times longer than wide are not searched for parts: it would take very long."""


def find_parts(pixels: NDArray[np.uint32]) -> list[Rectangle]:
    """Return the rectangles of a picture that may be pictures of their own.

    Parameters
    ----------
    pixels : (height, width) uint32 ndarray
        Red in the low byte, then green, then blue.

    Returns
    -------
    list of Rectangle
        At most `MAX_PARTS`, the best guess first; the whole picture is not among them. Each has at least 6 %
        of the picture's area.
    """
    step = max(1, math.ceil(math.sqrt(pixels.size / _MOST_PIXELS)))
    sample = pixels[::step, ::step]
    if min(sample.shape) < max(MIN_SIDE, max(sample.shape) / _MOST_LONG):
        return []
    boxes = find_boxes(np.ascontiguousarray(sample))
    if step > 1:
        boxes = [_moved_to_edges(pixels, box, step) for box in boxes]
    return [Rectangle(box.left, box.top, box.width, box.height) for box in boxes]


def _moved_to_edges(pixels: NDArray[np.uint32], box: Box, step: int) -> Box:
    """Convert a box of the sample to pixels, with each side moved to the sharpest edge nearby."""
    height, width = pixels.shape
    top, bottom = box.top * step, min(box.bottom * step, height)
    left, right = box.left * step, min(box.right * step, width)
    columns = pixels.T
    return Box(
        _sharpest(pixels, top, left, right, step),
        _sharpest(pixels, bottom, left, right, step),
        _sharpest(columns, left, top, bottom, step),
        _sharpest(columns, right, top, bottom, step),
    )


def _sharpest(pixels: NDArray[np.uint32], at: int, left: int, right: int, step: int) -> int:
    """Return the row near `at` that differs most from the one above; the picture's own edge stays."""
    first, stop = at - step - 1, at + step + 1
    if at == 0 or at == len(pixels) or first < 0 or stop > len(pixels):
        return at
    band = contiguous(pixels[first:stop, left:right])
    return first + int(np.argmax(steps(band, 0, len(band), 0, right - left)))
