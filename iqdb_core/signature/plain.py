"""The signature's arithmetic in numpy and Python: slow, needs no compiling, equal to the kernels to the bit.

Equivalent to `flatten`, `resample`, `haar` and `select`, where parameters and results are described. Used in
their place until they are compiled, and by tests.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import CHANNELS, KEPT, PLANE, SIDE

_BYTE: Final = np.uint32(255)
_OPACITY: Final = np.float32(127)
_ONE: Final = np.float32(1)
_SHRINK: Final = 0.7071
_YIQ: Final = ((0.299, 0.587, 0.114), (0.596, -0.275, -0.321), (0.212, -0.523, 0.311))

_Span = tuple[int, int, np.float32, np.float32]
"""First position, stop, overlap of the first, overlap of the last; see `resample.spans`."""


def on_white(pixels: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Flatten RGBA pixels onto white."""
    alpha = pixels >> np.uint32(24)
    out[:] = 0
    for shift in (np.uint32(0), np.uint32(8), np.uint32(16)):
        sums = ((pixels >> shift) & _BYTE) * alpha + _BYTE * (_BYTE - alpha) + np.uint32(128)
        out |= ((sums + (sums >> np.uint32(8))) >> np.uint32(8)) << shift


def look_up(indices: NDArray[np.uint8], colours: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Replace indices by colours."""
    out[:] = colours[indices]


class Shrinking:
    """A picture on its way to 128 x 128, fed from the top in bands of rows; see `resample.Shrinking`."""

    def __init__(self, width: int, height: int) -> None:
        self._is_as_it_is = width == SIDE and height == SIDE
        columns, self._across = spans(width)
        first, stop, heads, tails = zip(*columns, strict=True)
        self._spans = np.array(first), np.array(stop), np.array(heads), np.array(tails)
        self._rows, self._down = spans(height)
        self._sums = np.zeros((CHANNELS + 2, len(columns)), np.float32)
        self._cells = np.empty((CHANNELS, len(self._rows), len(columns)), np.uint8)
        self._next_row = 0
        self._next_cell = 0

    def add(self, band: NDArray[np.uint32]) -> None:
        """Take in the next rows: (n, width) uint32, red in the low byte, then green, then blue."""
        channels = np.stack([(band >> np.uint32(8 * channel)) & _BYTE for channel in range(CHANNELS)])
        top, bottom = self._next_row, self._next_row + len(band)
        self._next_row = bottom
        if self._is_as_it_is:
            self._cells[:, top:bottom] = channels
            return
        values = channels.astype(np.float32)
        while self._next_cell < len(self._rows) and self._rows[self._next_cell][0] < bottom:
            span = self._rows[self._next_cell]
            if span[0] >= top:
                self._sums[:] = 0
            for y in range(max(span[0], top), min(span[1], bottom)):
                self._add_row(values[:, y - top], _overlap(y, span))
            if span[1] > bottom:
                return
            self._finish()
            self._next_cell += 1

    def small(self) -> NDArray[np.uint8]:
        """Return the (3, 128, 128) uint8 picture; all rows must be in."""
        return np.ascontiguousarray(self._cells[:, self._down][:, :, self._across])

    def _add_row(self, row: NDArray[np.float32], overlap: np.float32) -> None:
        """Add a row: all cells' k-th pixels before their k+1-th, so that each cell keeps its own order."""
        first, stop, heads, tails = self._spans
        for k in range((stop - first).max()):
            places = first + k
            inner = np.where(places == stop - 1, tails, np.where(places < stop, _ONE, np.float32(0)))
            area = (heads if k == 0 else inner) * overlap
            opacity = _OPACITY * area
            self._sums[:CHANNELS] += row[:, np.minimum(places, stop - 1)] * opacity
            self._sums[CHANNELS] += opacity
            self._sums[CHANNELS + 1] += area

    def _finish(self) -> None:
        *colours, opacity, area = self._sums
        mean_opacity = opacity / area
        for channel, sums in enumerate(colours):
            value = (sums / area) / mean_opacity + np.float32(0.5)
            self._cells[channel, self._next_cell] = np.minimum(value.astype(np.int32), 255)


def spans(length: int) -> tuple[list[_Span], NDArray[np.int64]]:
    """Return the different spans of 128 output cells along one axis, and which of them each cell has."""
    found: list[_Span] = []
    which = np.empty(SIDE, np.int64)
    for cell in range(SIDE):
        start, end = (
            np.float32(cell * length) / np.float32(SIDE),
            np.float32((cell + 1) * length) / np.float32(SIDE),
        )
        low, high = int(np.floor(start)), min(int(np.ceil(end)), length)
        head = min(_ONE - (start - np.float32(low)), end - start)
        tail = end - np.floor(end) if high - 1 == int(np.floor(end)) else _ONE
        span = (low, high, np.float32(head), np.float32(head if high - low == 1 else tail))
        if not found or found[-1] != span:
            found.append(span)
        which[cell] = len(found) - 1
    return found, which


def _overlap(position: int, span: _Span) -> np.float32:
    first, stop, head, tail = span
    if position == first:
        return head
    if position >= stop:
        return np.float32(0)
    return tail if position == stop - 1 else _ONE


def coefficients(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert 8-bit RGB to YIQ and decompose each channel."""
    red, green, blue = small.astype(np.float64)
    planes = np.empty((CHANNELS, SIDE, SIDE))
    for plane, (r, g, b) in zip(planes, _YIQ, strict=True):
        by_rows = _decomposed((r * red + g * green + b * blue).T)
        plane[:] = _decomposed(by_rows.T)
        plane[0, 0] /= 256 * SIDE
    return planes


def _decomposed(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decompose every column."""
    out = np.empty_like(lines)
    factor, half = 1.0, len(lines)
    while half > 1:
        half //= 2
        factor *= _SHRINK
        left, right = lines[0::2], lines[1::2]
        out[half : 2 * half] = (left - right) * factor
        lines = left + right
    out[0] = lines[0] * factor
    return out


def signed_positions(planes: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return the positions of the largest coefficients, with the coefficients' signs."""
    kept = np.empty((CHANNELS, KEPT), np.int16)
    for channel in range(CHANNELS):
        flat = planes[channel].reshape(PLANE).tolist()
        heap: list[tuple[float, int]] = []
        for n in range(1, KEPT + 1):
            heap.append((0.0, 0))
            _push(heap, n - 1, (abs(flat[n]), n))
        for n in range(KEPT + 1, PLANE):
            if abs(flat[n]) > heap[0][0]:
                _replace_root(heap, (abs(flat[n]), n))
        kept[channel] = sorted(n if flat[n] > 0 else -n for _, n in heap)
    return kept


def _push(heap: list[tuple[float, int]], hole: int, element: tuple[float, int]) -> None:
    """Fill the hole with an element, after moving its larger ancestors down."""
    while hole > 0 and heap[(hole - 1) // 2][0] > element[0]:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = element


def _replace_root(heap: list[tuple[float, int]], element: tuple[float, int]) -> None:
    """Pop the root, moving the hole all the way down before the last element rises; then push an element."""
    last = len(heap) - 1
    hole = 0
    while 2 * hole + 1 < last:
        left, right = 2 * hole + 1, 2 * hole + 2
        child = left if right == last or heap[right][0] > heap[left][0] else right
        heap[hole] = heap[child]
        hole = child
    _push(heap, hole, heap[last])
    _push(heap, last, element)
