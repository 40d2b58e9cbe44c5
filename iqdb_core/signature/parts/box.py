"""Rectangles of pixels, as ranges of rows and columns.

Arithmetic only; knows no picture. Used by everything that cuts pictures into parts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
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


def common_share(one: Box, other: Box) -> float:
    """Return which share of the area of both together two boxes have in common."""
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    width = min(one.right, other.right) - max(one.left, other.left)
    common = max(0, height) * max(0, width)
    return common / (one.area + other.area - common)
