"""Finds boxes that may be pictures of their own, and chooses those that are worth a search.

Called by `find_parts` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import FIRST_PARTS
from iqdb_core.signature.parts.box import Box, common_shares
from iqdb_core.signature.parts.cutting import cut_at_edges, pieces_of
from iqdb_core.signature.parts.peeling import bordered_boxes, loose_boxes, padded_boxes, peeled_steps
from iqdb_core.signature.parts.sheet import MIN_AREA, MIN_SIDE, SAME, Colour, Sheet

MAX_PARTS: Final = 16
_LEVELS: Final = 3
_MOST_LONG: Final = 10
"""Limit of length over width of a picture cut off others; longer parts are edges of a page."""
_PAGE_WEIGHT: Final = 0.4
"""Weight of a box that is cut into pieces with the colour of the page between them."""
_LOOSE_WEIGHT: Final = 0.7
"""Weight of a box that has a flat margin."""
_PADDED_WEIGHT: Final = 0.5
"""Weight of content with a margin of the page's colour that may be its own."""
_INK_POWER: Final = 1.5
"""How strongly an area full of content is preferred to a larger one with as much content."""
_LIKENESS: Final = 0.5
"""How much less a box counts after a similar one was chosen, so that other pictures come first."""
_INK_SAMPLES: Final = 60_000
_SAME_PART: Final = 0.985
"""Two rectangles with at least this share in common count as one."""

_Paper = tuple[Colour, ...]
"""The colours of a page around and between its pictures."""


@dataclass(frozen=True, slots=True)
class _Guess:
    """A box that may be a picture on a page of these colours; the weight says how likely, 0..1.

    Late guesses are many, and seldom right: guessed margins whose end nothing in the picture shows, and runs
    of pieces between straight edges.
    """

    box: Box
    paper: _Paper
    weight: float
    is_late: bool = False


def find_boxes(pixels: NDArray[np.uint32]) -> list[Box]:
    """Return the boxes of a picture that are worth a search, the best guess first; see `find_parts`."""
    sheet = Sheet(pixels)
    least = sheet.whole.area * MIN_AREA
    ink = _Ink(pixels)
    worth: dict[Box, float] = {}
    late: dict[Box, float] = {}
    for guess in _guesses(sheet, sheet.whole, (), _LEVELS):
        box = guess.box
        if box.area >= least and min(box.width, box.height) >= MIN_SIDE:
            value = guess.weight * ink.in_box(box, guess.paper) ** _INK_POWER * box.area ** (1 - _INK_POWER)
            kind = late if guess.is_late else worth
            kind[box] = max(value, kind.get(box, 0.0))
    return _chosen(sheet.whole, late | worth, frozenset(worth))


def _chosen(whole: Box, worth: Mapping[Box, float], seen: Collection[Box]) -> list[Box]:
    """Return the boxes of the highest worth, reduced by what each has in common with those before it.

    Parameters
    ----------
    whole : Box
        Never chosen, nor are boxes that are nearly the same.
    worth : mapping of Box to float
    seen : collection of Box
        The boxes that come before all others.
    """
    boxes = sorted(worth, key=lambda box: (box.top, box.left))
    sides = np.array(boxes, np.int64).reshape(-1, 4)
    values = np.array([worth[box] for box in boxes])
    values[common_shares(whole, sides) >= _SAME_PART] = -np.inf
    is_late = np.array([box not in seen for box in boxes], np.bool_)
    chosen: list[Box] = []
    while len(chosen) < MAX_PARTS and (values > -np.inf).any():
        first = np.where(is_late, -np.inf, values) if len(chosen) < FIRST_PARTS else values
        box = boxes[int((first if (first > -np.inf).any() else values).argmax())]
        chosen.append(box)
        common = common_shares(box, sides)
        values *= 1 - _LIKENESS * common
        values[common >= _SAME_PART] = -np.inf
    return chosen


class _Ink:
    """Counts the pixels of any rectangle that do not have the colours of the page around it."""

    def __init__(self, pixels: NDArray[np.uint32]) -> None:
        self._step = max(1, int(np.sqrt(pixels.size / _INK_SAMPLES)))
        sample = pixels[:: self._step, :: self._step]
        self._channels = [(sample >> np.uint32(8 * c) & np.uint32(255)).astype(np.int16) for c in range(3)]
        self._sums: dict[_Paper, NDArray[np.int32]] = {}

    def in_box(self, box: Box, paper: _Paper) -> int:
        """Return the number for a box, estimated from a sample."""
        top, bottom, left, right = (
            -(-value // self._step) for value in (box.top, box.bottom, box.left, box.right)
        )
        sums = self._sums_of(paper)
        n = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return int(n) * self._step**2

    def _sums_of(self, paper: _Paper) -> NDArray[np.int32]:
        if paper not in self._sums:
            height, width = self._channels[0].shape
            is_ink = np.ones((height, width), np.bool_)
            for colour in paper:
                near = [np.abs(self._channels[c] - colour[c]) <= 2 * SAME for c in range(3)]
                is_ink &= ~(near[0] & near[1] & near[2])
            sums = np.zeros((height + 1, width + 1), np.int32)
            inner = sums[1:, 1:]
            np.cumsum(is_ink, axis=1, dtype=np.int32, out=inner)
            np.cumsum(inner, axis=0, out=inner)
            self._sums[paper] = sums
        return self._sums[paper]


def _guesses(sheet: Sheet, box: Box, paper: _Paper, levels: int) -> Iterator[_Guess]:
    """Yield a box, the rest of it after each peeling, and the same for the pieces that it is cut into."""
    if sheet.seen.get(box, -1) >= levels:
        return
    sheet.seen[box] = levels
    peeled = [*peeled_steps(sheet, box)]
    papers = [paper]
    for _, colour in peeled:
        papers.append(_with(papers[-1], colour))
    cuts, is_page = _cuts(sheet, box, peeled, papers) if levels > 0 else ([], False)
    weight = _PAGE_WEIGHT if is_page else 1.0
    yield _Guess(box, paper, weight * (_LOOSE_WEIGHT if peeled else 1.0))
    if peeled:
        for loose in loose_boxes(box, peeled[-1][0]):
            yield _Guess(loose, paper, weight * _LOOSE_WEIGHT)
    for (inner, _), inner_paper in zip(peeled, papers[1:], strict=True):
        yield _Guess(inner, inner_paper, weight)
    if peeled:
        guessed = [*padded_boxes(box, peeled[-1][0])]
        if box == sheet.whole:
            guessed = [*bordered_boxes(box, peeled[-1][0]), *guessed]
        for padded in guessed:
            yield _Guess(padded, paper, weight * _PADDED_WEIGHT, is_late=True)
    for cut in cuts:
        yield from _guesses_at(sheet, cut, 0 if cut.is_union else levels - 1)


def _guesses_at(sheet: Sheet, cut: _Cut, levels: int) -> Iterator[_Guess]:
    """Yield what `_guesses` does for a piece of a box, but no edge of a page."""
    for guess in _guesses(sheet, cut.box, cut.paper, levels):
        short, long = sorted((guess.box.width, guess.box.height))
        if long <= _MOST_LONG * short:
            yield replace(guess, is_late=True) if cut.is_late else guess


@dataclass(frozen=True, slots=True)
class _Cut:
    """A piece of a box, and the page that it is on; a union of pieces is not cut again."""

    box: Box
    paper: _Paper
    is_union: bool = False
    is_late: bool = False


def _cuts(
    sheet: Sheet, box: Box, peeled: Sequence[tuple[Box, Colour]], papers: Sequence[_Paper]
) -> tuple[list[_Cut], bool]:
    """Return what a box falls into, and whether what lies between is of the page's colour."""
    core = peeled[-1][0] if peeled else box
    if core.area < sheet.whole.area * MIN_AREA:
        return [], False
    is_page = False
    cuts = []
    around = core if not peeled else peeled[-2][0] if len(peeled) > 1 else box
    for pieces, colour in pieces_of(sheet, core, around):
        paper = _with(papers[-1], colour)
        is_page |= paper == papers[-1] and len(pieces) > 1
        cuts += [_Cut(piece, paper, is_union) for piece, is_union in pieces]
    is_whole = box == sheet.whole
    with_edges = [] if cuts else [core]
    if is_whole and box not in with_edges:  # an apparent border or page may be part of the picture
        with_edges.append(box)
    for edged in with_edges:
        for piece, is_union in cut_at_edges(sheet, edged):
            if is_whole or not is_union:  # edges of every box would be too many
                cuts.append(_Cut(piece, papers[-1], is_union, is_late=is_union))
    return cuts, is_page


def _with(paper: _Paper, colour: Colour) -> _Paper:
    """Return the colours of a page with one more, unless it is among them."""
    if any(max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= SAME for other in paper):
        return paper
    return (*paper, colour)
