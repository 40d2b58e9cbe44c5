"""Which rows of a rectangle are flat, and where a straight edge runs across it.

For every row of a part of a picture: is it of one colour, or a smooth gradient, apart from JPEG artefacts?
Columns are the rows of the transposed picture. Knows nothing of parts. Called by `parts` only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel

_SAMPLES: Final = 9
"""Pixels of each third of a row whose median is its colour there."""
_GLANCES: Final = 24
"""Pixels of a row that are compared first: most rows are plainly not flat."""
_MOST_JUMPS: Final = 4
_FAR: Final = 20
"""A pixel whose red, green or blue differs by more from the row's colour is content: JPEG at quality 50
leaves nearly everything below, a letter's stroke differs by more."""
_MOST_FAR: Final = 0.01
"""Share of a flat row's pixels that may be content: dust, or a column too many beside the row."""
_MOST_FAR_RINGING: Final = 0.3
"""The same for rows next to content, where JPEG rings."""
_VERY_FAR: Final = 60
"""Ringing stays below this."""
_RUN: Final = 128
"""Pixels between two checks whether enough are content."""
_SPOTS: Final = 200
"""Pixels of a row that are examined for edges."""
_STEP: Final = 10
"""Minimum difference of a pixel from the one above at an edge."""


@kernel()
def _median(values: NDArray[np.int64], n: int) -> int:
    """Return the median of the first n values, which are sorted."""
    for i in range(1, n):
        value = values[i]
        hole = i
        while hole > 0 and values[hole - 1] > value:
            values[hole] = values[hole - 1]
            hole -= 1
        values[hole] = value
    return int(values[n // 2])


@kernel()
def _far_share(
    row: NDArray[np.uint32], left: int, right: int, ends: NDArray[np.int64], most: float, far: int
) -> float:
    """Return the share of pixels further than `far` from the line through the colours `ends`.

    Stops with a value above `most` once that is exceeded, but only at the end of a run of pixels: without an
    early exit, and with unsigned indices and values, the compiler can use vectors.
    """
    width = right - left
    room = most * width
    count = 0
    span = float(max(1, 2 * width // 3))
    red, green, blue = ends[0, 0], ends[0, 1], ends[0, 2]
    reds, greens, blues = ends[1, 0] - red, ends[1, 1] - green, ends[1, 2] - blue
    is_even = max(abs(reds), abs(greens), abs(blues)) <= 1
    # A value below the lower limit wraps around, and is then larger than `apart`.
    red_from, green_from, blue_from = np.uint32(red - far), np.uint32(green - far), np.uint32(blue - far)
    apart = np.uint32(2 * far)
    low = np.uint32(255)
    for first in range(np.uint64(left), np.uint64(right), np.uint64(_RUN)):
        stop = min(first + np.uint64(_RUN), np.uint64(right))
        found = np.uint32(0)
        if is_even:
            for x in range(first, stop):
                pixel = row[x]
                is_far = np.uint32((pixel & low) - red_from) > apart
                is_far |= np.uint32(((pixel >> np.uint32(8)) & low) - green_from) > apart
                is_far |= np.uint32(((pixel >> np.uint32(16)) & low) - blue_from) > apart
                found = np.uint32(found + np.uint32(is_far))
        else:
            for x in range(first, stop):
                pixel = row[x]
                along = float(np.int64(x) - left - width // 6)
                # For integers this small the floor of the quotient is exact.
                red_at = red + np.floor(reds * along / span)
                green_at = green + np.floor(greens * along / span)
                blue_at = blue + np.floor(blues * along / span)
                is_far = abs(np.int32(pixel & low) - red_at) > far
                is_far |= abs(np.int32((pixel >> np.uint32(8)) & low) - green_at) > far
                is_far |= abs(np.int32((pixel >> np.uint32(16)) & low) - blue_at) > far
                found = np.uint32(found + np.uint32(is_far))
        count += int(found)
        if count > room:
            return 2.0
    return count / width


@kernel()
def _is_plainly_content(row: NDArray[np.uint32], left: int, right: int) -> bool:
    """Return whether a row changes so often that it cannot be flat."""
    stride = max(1, (right - left) // _GLANCES)
    jumps = 0
    for x in range(left + stride, right, stride):
        one = row[x]
        other = row[x - stride]
        jump = 0
        for channel in range(3):
            shift = np.uint32(8 * channel)
            a = np.int64((one >> shift) & np.uint32(255))
            b = np.int64((other >> shift) & np.uint32(255))
            jump = max(jump, int(abs(a - b)))
        jumps += 1 if jump > 2 * _FAR else 0
    return jumps > _MOST_JUMPS


@kernel()
def _ends(
    row: NDArray[np.uint32], left: int, right: int, values: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    """Write the median colours in the middle of the row's first and last third."""
    third = max(1, (right - left) // 3)
    for end in range(2):
        first = left if end == 0 else right - third
        n = min(_SAMPLES, third)
        for channel in range(3):
            for i in range(n):
                pixel = row[first + i * third // n]
                values[i] = np.int64((pixel >> np.uint32(8 * channel)) & np.uint32(255))
            ends[end, channel] = _median(values, n)


@kernel(allocates=True)
def flat_rows(
    pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Return which rows of a rectangle are flat, and their colours.

    Parameters
    ----------
    pixels : (height, width) uint32 ndarray, C-contiguous
        Red in the low byte, then green, then blue.
    top, bottom, left, right : int
        Half-open, not empty.

    Returns
    -------
    is_flat : (bottom - top,) bool ndarray
        Of one colour, or an even gradient from one end to the other, except for one pixel in a hundred.
    is_ringing : (bottom - top,) bool ndarray
        Flat except for JPEG artefacts beside content.
    colours : (bottom - top, 2, 3) int64 ndarray
        Red, green and blue, 0..255, in the middle of the first and of the last third.
    """
    n = bottom - top
    is_flat = np.zeros(n, np.bool_)
    is_ringing = np.zeros(n, np.bool_)
    colours = np.zeros((n, 2, 3), np.int64)
    values = np.empty(_SAMPLES, np.int64)
    for y in range(n):
        row = pixels[top + y]
        if _is_plainly_content(row, left, right):
            continue
        _ends(row, left, right, values, colours[y])
        is_flat[y] = _far_share(row, left, right, colours[y], _MOST_FAR, _FAR) <= _MOST_FAR
        if is_flat[y]:
            is_ringing[y] = True
        elif _far_share(row, left, right, colours[y], _MOST_FAR, _VERY_FAR) <= _MOST_FAR:
            is_ringing[y] = (
                _far_share(row, left, right, colours[y], _MOST_FAR_RINGING, _FAR) <= _MOST_FAR_RINGING
            )
    return is_flat, is_ringing, colours


@kernel(allocates=True)
def _differences(
    pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int
) -> NDArray[np.uint8]:
    """Return by how much spots of each row differ from those above, in the channel that differs most.

    Returns
    -------
    (bottom - top, n) uint8 ndarray
        The first row is 0.
    """
    stride = max(1, (right - left) // _SPOTS)
    n = (right - left - 1) // stride + 1
    out = np.zeros((bottom - top, n), np.uint8)
    spots = np.empty((2, n), np.uint32)
    low = np.uint32(255)
    for y in range(bottom - top):
        row = pixels[top + y]
        own, above = spots[y & 1], spots[(y + 1) & 1]
        for i in range(n):
            own[i] = row[left + i * stride]
        if y == 0:
            continue
        differences = out[y]
        for i in range(n):
            one, other = own[i], above[i]
            red = abs(np.int32(one & low) - np.int32(other & low))
            green = abs(np.int32((one >> np.uint32(8)) & low) - np.int32((other >> np.uint32(8)) & low))
            blue = abs(np.int32((one >> np.uint32(16)) & low) - np.int32((other >> np.uint32(16)) & low))
            differences[i] = np.uint8(max(red, green, blue))
    return out


@kernel(allocates=True)
def steps(pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int) -> NDArray[np.float64]:
    """Return by how much each row of a rectangle differs from the one above, on average.

    Returns
    -------
    (bottom - top,) float64 ndarray
        0..255; the first is 0.
    """
    out = np.zeros(bottom - top)
    differences = _differences(pixels, top, bottom, left, right)
    n = differences.shape[1]
    for y in range(1, bottom - top):
        total = 0
        for i in range(n):
            total += differences[y, i]
        out[y] = total / n
    return out


@kernel(allocates=True)
def edge_shares(
    pixels: NDArray[np.uint32], top: int, bottom: int, left: int, right: int
) -> NDArray[np.float64]:
    """Return over which share of its width a sharp edge runs between each row and the one above.

    An edge is sharp if rows differ more than two rows further up and down. Inside a picture such edges are
    seldom exactly level; between two pictures they always are.

    Returns
    -------
    (bottom - top,) float64 ndarray
        0..1; 0 for the first and last three.
    """
    out = np.zeros(bottom - top)
    differences = _differences(pixels, top, bottom, left, right)
    n = differences.shape[1]
    for y in range(3, bottom - top - 3):
        own, before, behind = differences[y], differences[y - 2], differences[y + 2]
        count = 0
        for i in range(n):
            around = max(before[i], behind[i])
            count += (own[i] > _STEP) & (2 * own[i] > 3 * around)
        out[y] = count / n
    return out
