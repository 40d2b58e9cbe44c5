"""What `signature.parts.lines` computes, one pixel at a time."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Colour = list[int]


def _channels(pixel: int) -> Colour:
    return [pixel & 255, pixel >> 8 & 255, pixel >> 16 & 255]


def _apart(one: int, other: int) -> int:
    return max(abs(a - b) for a, b in zip(_channels(one), _channels(other), strict=True))


def flat_row(row: list[int]) -> tuple[bool, bool, list[Colour]]:
    """Return whether a row is flat, whether it is flat but for ringing, and its two colours."""
    stride = max(1, len(row) // 24)
    glances = range(stride, len(row), stride)
    if sum(_apart(row[x], row[x - stride]) > 40 for x in glances) > 4:
        return False, False, [[0, 0, 0], [0, 0, 0]]
    third = max(1, len(row) // 3)
    n = min(9, third)
    ends = []
    for first in (0, len(row) - third):
        samples = [_channels(row[first + i * third // n]) for i in range(n)]
        ends.append([sorted(sample[c] for sample in samples)[n // 2] for c in range(3)])
    is_even = all(abs(a - b) <= 1 for a, b in zip(*ends, strict=True))

    def share(far: int) -> float:
        count = 0
        for x, pixel in enumerate(row):
            run = 0 if is_even else x - len(row) // 6
            wanted = [a + (b - a) * run // max(1, 2 * len(row) // 3) for a, b in zip(*ends, strict=True)]
            count += any(abs(v - w) > far for v, w in zip(_channels(pixel), wanted, strict=True))
        return count / len(row)

    is_flat = share(20) <= 0.01
    return is_flat, is_flat or (share(60) <= 0.01 and share(20) <= 0.3), ends


def steps(pixels: NDArray[np.uint32]) -> list[float]:
    """Return the mean difference between each row of a whole array and the one above."""
    rows = pixels.tolist()
    stride = max(1, len(rows[0]) // 200)
    return [0.0] + [
        float(np.mean([_apart(a, b) for a, b in zip(row[::stride], above[::stride], strict=True)]))
        for above, row in itertools.pairwise(rows)
    ]


def edge_shares(pixels: NDArray[np.uint32]) -> list[float]:
    """Return the share of columns with a sharp edge above each row of a whole array."""
    rows = pixels.tolist()
    stride = max(1, len(rows[0]) // 200)
    out = [0.0] * len(rows)
    for y in range(3, len(rows) - 3):
        found = []
        for x in range(0, len(rows[0]), stride):
            step = _apart(rows[y][x], rows[y - 1][x])
            around = max(_apart(rows[y - 2][x], rows[y - 3][x]), _apart(rows[y + 2][x], rows[y + 1][x]))
            found.append(step > 10 and 2 * step > 3 * around)
        out[y] = sum(found) / len(found)
    return out
