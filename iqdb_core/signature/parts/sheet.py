"""A picture with uniform access to its rows and columns, which caches which of them are flat.

Called by `peeling` and `cutting`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.signature.parts.arithmetic import contiguous, flat_rows
from iqdb_core.signature.parts.box import Box

Colour = tuple[int, int, int]
"""Red, green and blue, 0..255."""
SAME: Final = 10
"""Lines whose colours differ by at most this, of 255, are of one colour."""
MIN_AREA: Final = 0.06
"""Smaller parts of the whole picture's area are dropped."""
_FIRST_LINES: Final = 8
"""Lines at a side of a box that are examined first; most sides have no flat ones."""
MIN_SIDE: Final = 24
"""Parts with fewer pixels along a side are dropped: they have too little content."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The result of `flat_rows` for the rows, or the columns, of a box."""

    is_flat: NDArray[np.bool_]
    is_ringing: NDArray[np.bool_]
    colours: NDArray[np.int64]

    def reversed(self) -> Lines:
        """Return the same from the other side."""
        return Lines(self.is_flat[::-1], self.is_ringing[::-1], self.colours[::-1])


class Sheet:
    """A picture with uniform access to its rows and columns."""

    def __init__(self, pixels: NDArray[np.uint32]) -> None:
        self.across = contiguous(pixels)
        self.down = contiguous(pixels.T)
        self.whole = Box(0, pixels.shape[0], 0, pixels.shape[1])
        self._known: dict[tuple[Box, bool], Lines] = {}
        self._sides: dict[tuple[Box, bool, bool], Lines] = {}
        self.seen: dict[Box, int] = {}
        """Depth to which a box has been cut already."""
        self.sharpened: dict[Box, Box] = {}
        """The rest of a peeled box without JPEG artefacts of the border."""

    def rows(self, box: Box) -> Lines:
        """Return the rows of a box, from the top."""
        return self._lines(self.across, box, is_down=False)

    def columns(self, box: Box) -> Lines:
        """Return the columns of a box, from the left."""
        return self._lines(self.down, box.turned(), is_down=True)

    def side(self, box: Box, *, is_down: bool, is_far: bool) -> Lines:
        """Return the lines from one side of a box: all of them, or up to one that is not flat.

        Parameters
        ----------
        is_down : bool
            Columns, not rows.
        is_far : bool
            From the bottom, or the right.
        """
        key = (box, is_down, is_far)
        if key not in self._sides:
            pixels, box = (self.down, box.turned()) if is_down else (self.across, box)
            self._sides[key] = self._from_side(pixels, box, is_far=is_far)
        return self._sides[key]

    def _from_side(self, pixels: NDArray[np.uint32], box: Box, *, is_far: bool) -> Lines:
        found: list[Lines] = []
        done, count = 0, _FIRST_LINES
        while done < box.height and (not found or found[-1].is_flat.all()):
            upto = min(done + count, box.height)
            first, stop = (
                (box.bottom - upto, box.bottom - done) if is_far else (box.top + done, box.top + upto)
            )
            lines = Lines(*flat_rows(pixels, first, stop, box.left, box.right))
            found.append(lines.reversed() if is_far else lines)
            done, count = upto, 2 * count
        if len(found) == 1:
            return found[0]
        return Lines(
            np.concatenate([lines.is_flat for lines in found]),
            np.concatenate([lines.is_ringing for lines in found]),
            np.concatenate([lines.colours for lines in found]),
        )

    def _lines(self, pixels: NDArray[np.uint32], box: Box, *, is_down: bool) -> Lines:
        key = (box, is_down)
        if key not in self._known:
            self._known[key] = Lines(*flat_rows(pixels, box.top, box.bottom, box.left, box.right))
        return self._known[key]


def plain_colour(colour: NDArray[np.int64]) -> Colour:
    """Return the mean of the two colours of a line."""
    red, green, blue = colour.mean(axis=0).astype(int).tolist()
    return red, green, blue
