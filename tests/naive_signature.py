"""The signature, computed in the obvious way: slowly, one number at a time.

The kernels of `iqdb_core.signature` must agree with these functions exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SIDE = 128
KEPT = 40

f32 = np.float32


def shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the (128, 128, 3) picture of a (height, width, 3) one."""
    small = np.empty((SIDE, SIDE, 3), np.uint8)
    for y in range(SIDE):
        for x in range(SIDE):
            small[y, x] = cell(pixels, x, y)
    return small


def cell(pixels: NDArray[np.uint8], x: int, y: int) -> tuple[int, int, int]:
    """Return one pixel of the small picture."""
    height, width = pixels.shape[:2]
    if (height, width) == (SIDE, SIDE):
        return tuple(int(value) for value in pixels[y, x])
    sums = [f32(0)] * 3
    sum_a = sum_p = f32(0)
    for row, overlap_y in covered(y, height):
        for column, overlap_x in covered(x, width):
            p = overlap_x * overlap_y
            a = f32(127) * p
            sums = [sum_ + f32(value) * a for sum_, value in zip(sums, pixels[row, column], strict=True)]
            sum_a += a
            sum_p += p
    values = [(sum_ / sum_p) / (sum_a / sum_p) + f32(0.5) for sum_ in sums]
    return tuple(min(255, int(value)) for value in values)


def covered(output: int, length: int) -> list[tuple[int, np.float32]]:
    """Return the source positions that an output cell covers along one axis, with their overlaps."""
    start = f32(output * length) / f32(SIDE)
    end = f32((output + 1) * length) / f32(SIDE)
    first, last = math.floor(start), math.floor(end)
    found = []
    position = first
    while position < end:
        if position == first:
            overlap = min(f32(1) - (start - f32(first)), end - start)
        elif position == last:
            overlap = end - f32(last)
        else:
            overlap = f32(1)
        found.append((position, overlap))
        position += 1
    return found


def coefficients(small: NDArray[np.uint8]) -> list[list[list[float]]]:
    """Return three planes of 128 x 128 coefficients of a (128, 128, 3) picture."""
    planes = []
    for weights in ((0.299, 0.587, 0.114), (0.596, -0.275, -0.321), (0.212, -0.523, 0.311)):
        plane = [[_weighted(pixel, weights) for pixel in row] for row in small.tolist()]
        plane = [decomposed(row) for row in plane]
        columns = [decomposed(list(column)) for column in zip(*plane, strict=True)]
        plane = [list(row) for row in zip(*columns, strict=True)]
        plane[0][0] /= 256 * 128
        planes.append(plane)
    return planes


def _weighted(pixel: list[int], weights: tuple[float, float, float]) -> float:
    return weights[0] * pixel[0] + weights[1] * pixel[1] + weights[2] * pixel[2]


def decomposed(line: list[float]) -> list[float]:
    """Return the Haar coefficients of a row or a column."""
    out = list(line)
    factor = 1.0
    size = len(line)
    while size > 1:
        factor *= 0.7071
        size //= 2
        sums = [out[2 * k] + out[2 * k + 1] for k in range(size)]
        differences = [(out[2 * k] - out[2 * k + 1]) * factor for k in range(size)]
        out[: 2 * size] = sums + differences
    out[0] *= factor
    return out


def signed_positions(plane: list[list[float]]) -> list[int]:
    """Return the kept positions of a plane with their signs, ascending."""
    flat = [value for row in plane for value in row]
    heap: list[tuple[float, int]] = []
    for position in range(1, len(flat)):
        size = abs(flat[position])
        if len(heap) < KEPT:
            heap.append((size, position))
            push_heap(heap)
        elif size > heap[0][0]:
            pop_heap(heap)
            heap[-1] = (size, position)
            push_heap(heap)
    return sorted(position if flat[position] > 0 else -position for _, position in heap)


def push_heap(heap: list[tuple[float, int]]) -> None:
    """Let the last element rise past parents whose first member is larger, as C++'s push_heap does."""
    element = heap[-1]
    rest = heap[:-1]
    hole = len(rest)
    heap[:] = _risen([*rest, element], hole, element)


def pop_heap(heap: list[tuple[float, int]]) -> None:
    """Move the first element to the end and repair the rest, as libstdc++'s pop_heap does.

    The hole that the first element leaves goes down to the bottom, always to the child with the smaller first
    member and to the right one if both are equal; only then the former last element goes in and rises.
    """
    *rest, element = heap
    removed = rest[0]
    hole = 0
    while 2 * hole + 1 < len(rest):
        left, right = 2 * hole + 1, 2 * hole + 2
        child = left if right == len(rest) or rest[right][0] > rest[left][0] else right
        rest[hole] = rest[child]
        hole = child
    heap[:] = [*_risen(rest, hole, element), removed]


def _risen(heap: list[tuple[float, int]], hole: int, element: tuple[float, int]) -> list[tuple[float, int]]:
    while hole and heap[(hole - 1) // 2][0] > element[0]:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = element
    return heap


def on_white(value: int, alpha: int) -> int:
    """Return an 8-bit value blended onto white, rounded to nearest."""
    return (2 * (value * alpha + 255 * (255 - alpha)) + 255) // 510
