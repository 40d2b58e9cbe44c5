"""Rectangles of pixels, as ranges of rows and columns.

Arithmetic only; knows no picture. Used by everything that cuts pictures into parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """A rectangle by its half-open ranges."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    def around(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def turned(self) -> Box:
        """Return the box in the transposed picture."""
        return Box(self.left, self.right, self.top, self.bottom)


def common_shares(one: Box, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which share of the area of both together a box has in common with each of others.

    Parameters
    ----------
    others : (n, 4) int64 ndarray
        Their tops, bottoms, lefts and rights.
    """
    tops, bottoms, lefts, rights = others.T
    heights = np.minimum(one.bottom, bottoms) - np.maximum(one.top, tops)
    widths = np.minimum(one.right, rights) - np.maximum(one.left, lefts)
    common = np.maximum(0, heights) * np.maximum(0, widths)
    shares: NDArray[np.float64] = common / (one.area + (bottoms - tops) * (rights - lefts) - common)
    return shares
