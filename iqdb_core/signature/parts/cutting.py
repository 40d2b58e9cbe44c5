"""Cutting a picture where flat lines, or straight edges, run across it.

The XY-cut of document analysis, and for pictures side by side what it has no lines for. Called by `guesses`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.signature.parts.arithmetic import edge_shares
from iqdb_core.signature.parts.box import Box
from iqdb_core.signature.parts.sheet import MIN_AREA, MIN_SIDE, Colour, Lines, Sheet, plain_colour

_EDGE_SHARE: Final = 0.5
_MOST_EDGES: Final = 3


def pieces_of(sheet: Sheet, core: Box, box: Box) -> Iterator[tuple[list[tuple[Box, bool]], Colour]]:
    """Yield the large pieces between flat rows, then those between flat columns, and the colour between them.

    Each with the flat lines around it, as far as the next content or the sides of the `box` around the core.
    Runs of large pieces together, marked True, are pieces too: a picture may have flat lines of its own.
    """
    box = box.around(core)
    rows, columns = sheet.rows(core), sheet.columns(core)
    before, behind = core.top - box.top, box.bottom - core.bottom
    across = [
        (Box(box.top + top, box.top + bottom, box.left, box.right), is_union)
        for top, bottom, is_union in _runs(
            _padded(rows.is_flat, before, behind), core.width, sheet.whole.area
        )
    ]
    if across:
        yield across, _usual_colour(rows)
    before, behind = core.left - box.left, box.right - core.right
    down = [
        (Box(box.top, box.bottom, box.left + left, box.left + right), is_union)
        for left, right, is_union in _runs(
            _padded(columns.is_flat, before, behind), core.height, sheet.whole.area
        )
    ]
    if down:
        yield down, _usual_colour(columns)


def _padded(is_flat: NDArray[np.bool_], before: int, behind: int) -> NDArray[np.bool_]:
    return np.pad(is_flat, (before, behind), constant_values=True)


def _usual_colour(lines: Lines) -> Colour:
    """Return the median colour of the flat lines, of which there must be some."""
    return plain_colour(np.median(lines.colours[lines.is_flat], axis=0))


def _runs(is_flat: NDArray[np.bool_], width: int, area: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the ranges of large runs of lines that are not flat, from the content before to that behind."""
    changes = np.flatnonzero(np.diff(np.concatenate([[True], is_flat, [True]]).astype(np.int8)))
    starts, ends = changes[::2], changes[1::2]
    if len(starts) < 2:
        return
    before = np.concatenate([[0], ends[:-1]])
    behind = np.concatenate([starts[1:], [len(is_flat)]])
    is_large = (ends - starts) * width >= MIN_AREA * area
    first = 0
    for i, large in enumerate(is_large.tolist()):
        if not large:
            first = i + 1
            continue
        yield int(before[i]), int(behind[i]), False
        is_last = i + 1 == len(is_large) or not is_large[i + 1]
        if is_last and first < i and (first > 0 or i + 1 < len(is_large)):
            yield int(before[first]), int(behind[i]), True


def cut_at_edges(sheet: Sheet, box: Box) -> Iterator[tuple[Box, bool]]:
    """Yield the pieces between straight edges that run across a box.

    Runs of pieces together, marked True, are pieces too: a picture may have straight edges of its own. There
    are at most 9 across and 9 down.
    """
    for top, bottom, is_union in _between_edges(sheet.across, box):
        yield Box(box.top + top, box.top + bottom, box.left, box.right), is_union
    for left, right, is_union in _between_edges(sheet.down, box.turned()):
        yield Box(box.top, box.bottom, box.left + left, box.left + right), is_union


def _between_edges(pixels: NDArray[np.uint32], box: Box) -> Iterator[tuple[int, int, bool]]:
    """Yield ranges of rows between edges over most of the width, and runs of those; none without an edge."""
    shares = edge_shares(pixels, box.top, box.bottom, box.left, box.right)
    edges: list[int] = []
    for y in np.argsort(-shares, kind="stable")[: 4 * _MOST_EDGES].tolist():
        if shares[y] < _EDGE_SHARE or len(edges) == _MOST_EDGES:
            break
        if all(abs(y - other) > MIN_SIDE // 2 for other in edges):
            edges.append(y)
    if not edges:
        return
    cuts = [0, *sorted(edges), box.height]
    for first, last in itertools.combinations(range(len(cuts)), 2):
        if last - first < len(cuts) - 1:
            yield cuts[first], cuts[last], last - first > 1
