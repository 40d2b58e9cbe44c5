"""Shrinks a picture of any size to 128 x 128 pixels, to the bit like IQDB.

Area average in float32, in the order of operations of libgd 2.3, which decides the last bit;
`tests/naive_signature.py` has it pixel by pixel. Never decodes and never converts colours. Called by
`iqdb_core.signature` only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel
from iqdb_core.model import CHANNELS, SIDE

_ZERO: Final = np.float32(0)
_HALF: Final = np.float32(0.5)
_ONE: Final = np.float32(1)
_SIDE: Final = np.float32(SIDE)
_OPACITY: Final = np.float32(127)
"""Full opacity. Its scale cancels out except for rounding, so it has to be kept."""
_TOP: Final = np.int32(255)
_BYTE: Final = np.uint32(255)
_SUMS: Final = CHANNELS + 2
"""Running sums per cell: red, green, blue, opacity, area."""

Edges = tuple[NDArray[np.float32], NDArray[np.uint32]]
Spans = tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]
]


class Shrinking:
    """A picture of known size on its way to 128 x 128, fed from the top in bands of whole rows.

    Not safe for several threads at once; each picture has its own.

    Parameters
    ----------
    width, height : int
        Size of the picture in pixels, both at least 1.

    Notes
    -----
    Memory does not depend on the picture's size. Time is proportional to its pixels, for extreme shapes too.
    """

    def __init__(self, width: int, height: int) -> None:
        self._columns: Spans = spans(width)
        self._rows: Spans = spans(height)
        self._edges = edges(self._columns)
        across, down = len(self._columns[0]), len(self._rows[0])
        self._sums = np.zeros((_SUMS, across), np.float32)
        self._cells = np.empty((CHANNELS, down, across), np.uint8)
        self._is_as_it_is = width == SIDE and height == SIDE
        self._next_row = 0
        self._next_cell = 0

    def add(self, band: NDArray[np.uint32]) -> None:
        """Take in the next rows.

        Parameters
        ----------
        band : (n, width) uint32 ndarray, C-contiguous, read-only
            Red in the low byte, then green, then blue; the high byte is ignored.
        """
        if self._is_as_it_is:
            unpack(band, self._next_row, self._cells)
        else:
            self._next_cell = add_rows(
                band,
                self._next_row,
                self._rows,
                self._columns,
                self._edges,
                self._next_cell,
                self._sums,
                self._cells,
            )
        self._next_row += len(band)

    def small(self) -> NDArray[np.uint8]:
        """Return the (3, 128, 128) uint8 picture, planes of red, green, blue; all rows must be in."""
        if self._cells.shape == (CHANNELS, SIDE, SIDE):
            return self._cells
        return spread(self._cells, self._rows[4], self._columns[4])


@kernel(allocates=True)
def spans(length: int) -> Spans:
    """Return which source positions each of 128 output cells covers along one axis, and how much.

    Parameters
    ----------
    length : int
        Source positions along the axis, at least 1.

    Returns
    -------
    first, stop : (n,) int64 ndarray
        Half-open range of positions.
    head, tail : (n,) float32 ndarray
        Overlap, 0..1, of the first and of the last position; those between overlap by 1. A single
        position's is its head.
    which : (128,) int64 ndarray
        The span of each output cell. Neighbouring cells with equal spans share one, so that n <= 128, and a
        picture much smaller than 128 in one direction costs no more than its pixels.
    """
    first = np.empty(SIDE, np.int64)
    stop = np.empty(SIDE, np.int64)
    head = np.empty(SIDE, np.float32)
    tail = np.empty(SIDE, np.float32)
    which = np.empty(SIDE, np.int64)
    n = 0
    for cell in range(SIDE):
        start = np.float32(cell * length) / _SIDE
        end = np.float32((cell + 1) * length) / _SIDE
        low = np.int64(np.floor(start))
        high = np.int64(np.ceil(end))
        if high > length:  # beyond 2**24 positions float32 may round the end up
            high = np.int64(length)
        at_low = min(_ONE - (start - np.float32(low)), end - start)
        floor_of_end = np.floor(end)
        at_high = end - floor_of_end if high - 1 == np.int64(floor_of_end) else _ONE
        if high - low == 1:  # never used; equal for all cells within one position
            at_high = at_low
        is_same = n > 0 and first[n - 1] == low and stop[n - 1] == high
        if not (is_same and head[n - 1] == at_low and tail[n - 1] == at_high):
            first[n] = low
            stop[n] = high
            head[n] = at_low
            tail[n] = at_high
            n += 1
        which[cell] = n - 1
    return first[:n].copy(), stop[:n].copy(), head[:n].copy(), tail[:n].copy(), which


@kernel()
def _overlap(position: int, first: int, stop: int, head: np.float32, tail: np.float32) -> np.float32:
    """Return a position's overlap with a span; 0 beyond its end."""
    if position == first:
        return head
    if position >= stop:
        return _ZERO
    return tail if position == stop - 1 else _ONE


@kernel(allocates=True)
def edges(columns: Spans) -> Edges:
    """Tabulate what differs between spans: the overlaps of their first pixels, and of their last few.

    Returns
    -------
    overlaps : (1 + longest - last, n) float32 ndarray
        Row 0 for the spans' first pixels, row 1 + k - last for their k-th, where last = max(1, shortest - 1)
        is the first k that may end a span. 0 where a span has no k-th pixel.
    places : (1 + longest - last, n) uint32 ndarray
        Where these pixels are in a source row; some place within it if there is none.
    """
    first, stop, head, tail, _ = columns
    last = max(1, (stop - first).min() - 1)
    shape = (1 + max(0, (stop - first).max() - last), len(first))
    overlaps = np.empty(shape, np.float32)
    places = np.empty(shape, np.uint32)
    for row in range(shape[0]):
        k = 0 if row == 0 else last + row - 1
        for c in range(len(first)):
            overlaps[row, c] = _overlap(first[c] + k, first[c], stop[c], head[c], tail[c])
            places[row, c] = min(first[c] + k, stop[c] - 1)
    return overlaps, places


@kernel()
def _finish(sums: NDArray[np.float32], row: int, cells: NDArray[np.uint8]) -> None:
    """Divide a row of finished sums, which is destroyed, and round to 8 bits."""
    for c in range(sums.shape[1]):
        sums[3, c] /= sums[4, c]
    for channel in range(CHANNELS):
        for c in range(sums.shape[1]):
            value = (sums[channel, c] / sums[4, c]) / sums[3, c] + _HALF
            cells[channel, row, c] = np.uint8(min(np.int32(value), _TOP))


@kernel()
def _add_row(
    row: NDArray[np.uint32],
    overlap: np.float32,
    begin: NDArray[np.uint32],
    longest: int,
    ends: Edges,
    pixels: NDArray[np.uint32],
    area: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Add a source row, weighted by its vertical overlap, to the sums of all cells.

    Works through all cells' k-th pixels before their k+1-th: each cell's own order is kept, and the
    arithmetic runs over neighbouring cells at once. A cell that has no k-th pixel adds zero, which changes
    nothing.
    """
    across = len(begin)
    overlaps, places = ends
    last = longest - (len(overlaps) - 1)
    for k in range(longest):
        if 0 < k < last:
            for c in range(across):
                pixels[c] = row[begin[c] + np.uint32(k)]
            if k == 1:
                area[:] = overlap
        else:
            edge = 0 if k == 0 else 1 + k - last
            for c in range(across):
                pixels[c] = row[places[edge, c]]
            for c in range(across):
                area[c] = overlaps[edge, c] * overlap
        for c in range(across):
            pixel = pixels[c]
            opacity = _OPACITY * area[c]
            sums[0, c] += np.float32(np.int32(pixel & _BYTE)) * opacity
            sums[1, c] += np.float32(np.int32((pixel >> np.uint32(8)) & _BYTE)) * opacity
            sums[2, c] += np.float32(np.int32((pixel >> np.uint32(16)) & _BYTE)) * opacity
            sums[3, c] += opacity
            sums[4, c] += area[c]


@kernel(allocates=True)
def add_rows(
    band: NDArray[np.uint32],
    band_top: int,
    rows: Spans,
    columns: Spans,
    ends: Edges,
    cell: int,
    sums: NDArray[np.float32],
    cells: NDArray[np.uint8],
) -> int:
    """Add a band of source rows to the rows of cells that it covers.

    Parameters
    ----------
    band : (n, width) uint32 ndarray, C-contiguous, read-only
        Source rows band_top .. band_top + n - 1.
    band_top : int
        One more than the last row of the band before.
    rows, columns : tuple
        What `spans` says of the height and the width.
    ends : tuple
        What `edges` says of the columns.
    cell : int
        The first row of cells that is not finished.
    sums : (5, across) float32 ndarray
        Sums of that row of cells so far. **Changed in place.**
    cells : (3, down, across) uint8 ndarray
        Finished cells. **Changed in place.**

    Returns
    -------
    int
        The first row of cells that is not finished now. Only one can be half done: the next begins at the
        position where it ends.
    """
    first, stop, head, tail, _ = rows
    begin = columns[0].astype(np.uint32)
    longest = (columns[1] - columns[0]).max()
    pixels = np.empty(len(begin), np.uint32)
    area = np.empty(len(begin), np.float32)
    band_bottom = band_top + len(band)
    while cell < len(first) and first[cell] < band_bottom:
        if first[cell] >= band_top:
            sums[:] = _ZERO
        for y in range(max(first[cell], band_top), min(stop[cell], band_bottom)):
            overlap = _overlap(y, first[cell], stop[cell], head[cell], tail[cell])
            _add_row(band[y - band_top], overlap, begin, longest, ends, pixels, area, sums)
        if stop[cell] > band_bottom:
            break
        _finish(sums, cell, cells)
        cell += 1
    return cell


@kernel()
def unpack(band: NDArray[np.uint32], top: int, cells: NDArray[np.uint8]) -> None:
    """Copy a band of packed pixels into planes, beginning at row `top`; no arithmetic."""
    for y in range(band.shape[0]):
        for x in range(band.shape[1]):
            pixel = band[y, x]
            cells[0, top + y, x] = np.uint8(pixel & _BYTE)
            cells[1, top + y, x] = np.uint8((pixel >> np.uint32(8)) & _BYTE)
            cells[2, top + y, x] = np.uint8((pixel >> np.uint32(16)) & _BYTE)


@kernel(allocates=True)
def spread(cells: NDArray[np.uint8], down: NDArray[np.int64], across: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give every output cell the value of its span: (3, n, m) to (3, 128, 128) uint8."""
    small = np.empty((CHANNELS, SIDE, SIDE), np.uint8)
    for channel in range(CHANNELS):
        for y in range(SIDE):
            for x in range(SIDE):
                small[channel, y, x] = cells[channel, down[y], across[x]]
    return small
