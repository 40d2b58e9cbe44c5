"""Peels borders off, one flat colour at a time, and keeps every step.

A picture may have flat margins of its own, so no single step is right for all pictures. Called by `guesses`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.signature.parts.arithmetic import flat_rows, steps
from iqdb_core.signature.parts.box import Box
from iqdb_core.signature.parts.sheet import MIN_SIDE, SAME, Colour, Lines, Sheet, plain_colour

_MOST_PEELS: Final = 5
_EVEN: Final = 5
"""Neighbouring lines of a gradient differ by at most this."""
_RINGING_LINES: Final = 16
"""JPEG rings as far as its blocks of colour reach."""
_SHARP: Final = 3.0
_BORDERS: Final = (1.0, 0.8, 0.6)
"""Usual widths of a border, as shares of the narrowest margin."""
_MARGINS: Final = (0.03, 0.07, 0.12)
"""Usual margins of clip art, as shares of the shorter side of what is drawn."""


def peeled_steps(sheet: Sheet, box: Box) -> Iterator[tuple[Box, Colour]]:
    """Yield the rest after each flat colour is peeled off, from the outside in, and that colour."""
    for _ in range(_MOST_PEELS):
        colour = _edge_colour(sheet, box)
        if colour is None:
            return
        plain = _peel(sheet, box, colour, is_run=False)
        if min(plain.height, plain.width) < MIN_SIDE:
            return
        yield plain, plain_colour(colour)
        run = _peel(sheet, box, colour, is_run=True)
        if run.area < plain.area and min(run.height, run.width) >= MIN_SIDE:
            yield run, plain_colour(colour)
            plain = run
        box = plain


def _edge_colour(sheet: Sheet, box: Box) -> NDArray[np.int64] | None:
    """Return the colour of the side with the most flat lines of one colour; None if no side has any."""
    sides = [
        sheet.side(box, is_down=is_down, is_far=is_far)
        for is_down in (False, True)
        for is_far in (False, True)
    ]
    thicknesses = [_thickness(side) for side in sides]
    most = max(thicknesses)
    colour: NDArray[np.int64] = sides[thicknesses.index(most)].colours[0]
    return colour if most else None


def _peel(sheet: Sheet, box: Box, colour: NDArray[np.int64], *, is_run: bool) -> Box:
    """Remove a colour, or the gradient that begins with it, from all four sides."""
    while box.height > 0 and box.width > 0:
        top = _run(sheet.side(box, is_down=False, is_far=False), colour, is_run=is_run)
        bottom = _run(sheet.side(box, is_down=False, is_far=True), colour, is_run=is_run)
        inner = Box(box.top + top, box.bottom - bottom, box.left, box.right)
        if inner.height <= 0:  # everything is border, or two gradients meet at a jump; there are no columns
            return Box(box.top, box.top, box.left, box.right)
        left = _run(sheet.side(inner, is_down=True, is_far=False), colour, is_run=is_run)
        if left >= box.width:
            return Box(box.top, box.top, box.left, box.right)
        right = _run(sheet.side(inner, is_down=True, is_far=True), colour, is_run=is_run)
        inner = Box(inner.top, inner.bottom, inner.left + left, inner.right - right)
        if inner == box:
            if box not in sheet.sharpened:  # one colour and a gradient often leave the same
                sheet.sharpened[box] = _sharpened(sheet, box)
            return sheet.sharpened[box]
        box = inner
    return Box(box.top, box.top, box.left, box.right)


def _thickness(side: Lines) -> int:
    """Return how many lines, from the first, are flat and of the first one's colour."""
    return _run(side, side.colours[0], is_run=False)


def _run(lines: Lines, colour: NDArray[np.int64], *, is_run: bool) -> int:
    """Return how many lines, from the first, are flat and of a colour, or run on from it."""
    if len(lines.is_flat) == 0 or not lines.is_flat[0]:
        return 0
    belongs = lines.is_flat & (np.abs(lines.colours - colour).max(axis=(1, 2)) <= SAME)
    if is_run and belongs[0]:
        goes_on = np.abs(np.diff(lines.colours, axis=0)).max(axis=(1, 2)) <= _EVEN
        belongs = lines.is_flat & np.concatenate([[True], goes_on])
    return int(np.argmin(belongs)) if not belongs.all() else len(belongs)


def _sharpened(sheet: Sheet, box: Box) -> Box:
    """Move each side inwards over JPEG artefacts of the border, to the edge of the content."""
    top = box.top + _ringing(sheet.across, box, is_far_side=False)
    bottom = box.bottom - _ringing(sheet.across, box, is_far_side=True)
    left = box.left + _ringing(sheet.down, box.turned(), is_far_side=False)
    right = box.right - _ringing(sheet.down, box.turned(), is_far_side=True)
    if bottom - top < MIN_SIDE or right - left < MIN_SIDE:
        return box
    return Box(top, bottom, left, right)


def _ringing(pixels: NDArray[np.uint32], box: Box, *, is_far_side: bool) -> int:
    """Return how many rows at one side are a border with ringing, before a sharp step."""
    deep = min(_RINGING_LINES + 1, box.height)
    first = box.bottom - deep if is_far_side else box.top
    lines = Lines(*flat_rows(pixels, first, first + deep, box.left, box.right))
    rises = steps(pixels, first, first + deep, box.left, box.right)[1:]
    if is_far_side:
        lines, rises = lines.reversed(), rises[::-1]
    calm = int(np.argmin(lines.is_ringing)) if not lines.is_ringing.all() else 0
    if calm == 0 or calm > len(rises):
        return 0
    before = rises[: calm - 1].max(initial=1.0)
    return calm if rises[calm - 1] > _SHARP * before else 0


def loose_boxes(box: Box, core: Box) -> Iterator[Box]:
    """Yield boxes around a core with part of the margin: pictures often have equal margins of their own."""
    box = box.around(core)
    down = min(core.top - box.top, box.bottom - core.bottom)
    across = min(core.left - box.left, box.right - core.right)
    yield Box(core.top - down, core.bottom + down, box.left, box.right)
    yield Box(core.top - down, core.bottom + down, core.left - across, core.right + across)


def bordered_boxes(box: Box, core: Box) -> Iterator[Box]:
    """Yield the rest of `box` without a border of equal width, in the colour of the core's margin.

    With the widest possible border, the picture's content touches its own edge somewhere.
    """
    box = box.around(core)
    narrowest = min(
        core.top - box.top, box.bottom - core.bottom, core.left - box.left, box.right - core.right
    )
    for share in _BORDERS:
        width = round(share * narrowest)
        bordered = Box(box.top + width, box.bottom - width, box.left + width, box.right - width)
        if bordered not in (box, core):
            yield bordered


def padded_boxes(box: Box, core: Box) -> Iterator[Box]:
    """Yield boxes around a core with usual margins of clip art, and a square one, within `box`.

    If a picture's own margin has the colour of the page, nothing shows where it ends.
    """
    box = box.around(core)
    shorter, longer = sorted((core.width, core.height))
    margins = [(round(share * shorter), round(share * shorter)) for share in _MARGINS]
    margins.append(((longer - core.height) // 2, (longer - core.width) // 2))
    for down, across in margins:
        padded = Box(
            max(box.top, core.top - down),
            min(box.bottom, core.bottom + down),
            max(box.left, core.left - across),
            min(box.right, core.right + across),
        )
        if padded not in (box, core):
            yield padded
