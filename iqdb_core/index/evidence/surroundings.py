"""Matches that share only what is around a part: the window, page or app that a picture is shown in.

Answers: does this image show the same picture, or another one in the same surroundings? Screenshots of one
app share its bars, bubbles and frames, which few other images hold, so their evidence is strong. But the cuts
of the query say where its pictures are, and each coefficient has a place: those in a picture are not shared,
those around it are. Pure arithmetic. Called by `copies` and `pair`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.evidence.sharing import BUCKETS_HELD, flags_of
from iqdb_core.model import PLANE, SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.evidence.sharing import Held, Shared
    from iqdb_core.model import QuerySignature

MOST_ODDS: Final = 0.0
"""Log odds that a match in the same surroundings has at most."""
MOST_SCORE: Final = 70.0
"""From this score on both are so alike that one is the other with a change."""
LEAST_AREA: Final = 0.15
MOST_AREA: Final = 0.85
"""The area of a part, as a share of the picture that it is inside of. Around a larger part there is too
little to compare."""
LEAST_ASIDE: Final = 10
"""So many coefficients have to be inside a part, and outside of it."""
MOST_SHARED_INSIDE: Final = 0.2
LEAST_SHARED_OUTSIDE: Final = 0.4
"""Which share of the coefficients inside and outside a pair has in common that shares only surroundings. All
these numbers were chosen on screenshots of 188 pictures among those of 60 others in the same apps, and on
copies of 27 pictures with bars, blocks, stickers, other captions, or one of four painted over, which are to
stay likely; see docs/recall.md."""
LEAST_OTHER_INSIDE: Final = 0.25
"""For each coefficient of the query inside, the other picture has at least so many there: it shows something
else. Where it shows nothing, the picture was painted over or blurred, and the rest is a copy."""
_MARGIN: Final = 2
"""By so many pixels a part may stick out of the picture that it is inside of: sides are guessed."""
_MOSTLY: Final = 5
"""A coefficient is inside if at most one in so many of its pixels is outside, and the other way round."""


def _supports() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the Haar functions of a line of 128 pixels begin, and how many pixels they are wide."""
    numbers = np.arange(SIDE)
    octaves = np.array([max(0, int(n).bit_length() - 1) for n in numbers])
    widths = SIDE >> octaves
    return numbers * widths % SIDE, widths


_STARTS, _WIDTHS = _supports()


def without_surroundings(
    queries: Sequence[QuerySignature],
    held: Held,
    others: Held,
    rows: NDArray[np.int64],
    shared: Shared,
    scores: NDArray[np.float64],
    logits: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return log odds, at most `MOST_ODDS` for pairs of which `share_surroundings` is true."""
    is_around = share_surroundings(queries, held, others, rows, shared, scores, logits)
    return np.where(is_around, np.minimum(logits, MOST_ODDS), logits)


def share_surroundings(
    queries: Sequence[QuerySignature],
    held: Held,
    others: Held,
    rows: NDArray[np.int64],
    shared: Shared,
    scores: NDArray[np.float64],
    logits: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which of n pairs share what is around a part, and next to nothing of what is in it.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The first of each pair; `shared.numbers` says which. Where nobody knows the size of the whole
        picture, as in a search by hash, no pair does.
    held, others : Held
        Of the signatures of `queries`, and of what they are compared with.
    rows : (n,) int64 ndarray
        Which of the others is in each pair.
    shared : Shared
        Of the pairs.
    scores, logits : (n,) float64 ndarray
        Scores as in an index of many images, and log odds. Pairs from `MOST_SCORE` on, or of at most
        `MOST_ODDS`, are not looked at.
    """
    found = np.zeros(len(logits), np.bool_)
    likely = np.flatnonzero((logits > MOST_ODDS) & (scores < MOST_SCORE))
    for number in np.unique(shared.numbers[likely]).tolist():
        inner = _inner_parts(queries, number)
        if inner is None:
            continue
        pairs = likely[shared.numbers[likely] == number]
        inside, outside = inner.sides(held.buckets[number], held.is_informative[number])
        is_shared = flags_of(shared, pairs)
        counts, around = inside.sum(axis=1), outside.sum(axis=1)
        is_around = is_shared @ inside.T <= MOST_SHARED_INSIDE * counts
        is_around &= is_shared @ outside.T >= LEAST_SHARED_OUTSIDE * around
        is_around &= np.minimum(counts, around) >= LEAST_ASIDE
        for part in np.flatnonzero(is_around.any(axis=0)).tolist():
            chosen = pairs[is_around[:, part]]
            of_others = others.buckets[rows[chosen]], others.is_informative[rows[chosen]]
            others_inside, _ = inner.of(part).sides(*of_others)
            found[chosen[others_inside.sum(axis=1) >= LEAST_OTHER_INSIDE * counts[part]]] = True
    return found


@dataclass(frozen=True, slots=True)
class _Inner:
    """p parts inside of a picture.

    Parameters
    ----------
    across, down : (p, 128) int64 ndarray
        How many pixels of each Haar function along a row are inside, times the width of the picture, and how
        many of each down a column, times its height.
    area : int
        Width times height.
    """

    across: NDArray[np.int64]
    down: NDArray[np.int64]
    area: int

    def of(self, part: int) -> _Inner:
        """Return one of the parts."""
        return _Inner(self.across[part : part + 1], self.down[part : part + 1], self.area)

    def sides(
        self, buckets: NDArray[np.int64], is_informative: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return 1 for buckets inside of a part, and for those outside of it, 0 for others.

        Of one signature, (p, 120) of its (120,) buckets; of one part, (n, 120) of those of n signatures.
        """
        row, column = np.divmod(buckets % PLANE, SIDE)
        common = self.down[:, row] * self.across[:, column]
        whole = _WIDTHS[row] * _WIDTHS[column] * self.area
        inside = is_informative & (_MOSTLY * (whole - common) <= whole)
        outside = is_informative & (_MOSTLY * common <= whole)
        shape = (-1, BUCKETS_HELD)
        return inside.reshape(shape).astype(np.float64), outside.reshape(shape).astype(np.float64)


def _inner_parts(queries: Sequence[QuerySignature], number: int) -> _Inner | None:
    """Return the parts inside of what a signature is of; None without any, or for turns but the mirror."""
    one, size = queries[number], queries[0].size
    if size is None or one.turn not in {"none", "mirror"}:
        return None
    x, y, width, height = 0, 0, *size
    if one.part is not None:
        x, y, width, height = one.part.x, one.part.y, one.part.width, one.part.height
    area = width * height
    boxes = [
        (inner.x - x, inner.y - y, inner.x - x + inner.width, inner.y - y + inner.height)
        for inner in (other.part_shown for other in queries if other.turn == "none")
        if inner is not None and LEAST_AREA * area <= inner.width * inner.height <= MOST_AREA * area
    ]
    boxes = [box for box in boxes if min(box[0], box[1], width - box[2], height - box[3]) >= -_MARGIN]
    if not boxes:
        return None
    left, top, right, bottom = np.array(boxes, np.int64).T
    if one.turn == "mirror":
        left, right = width - right, width - left
    return _Inner(_common(left, right, width), _common(top, bottom, height), area)


def _common(first: NDArray[np.int64], last: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return how many of the pixels of each Haar function of a line are in ranges of it, times `length`."""
    begin, end = SIDE * first[:, None], SIDE * last[:, None]
    starts, ends = _STARTS * length, (_STARTS + _WIDTHS) * length
    common: NDArray[np.int64] = np.maximum(np.minimum(ends, end) - np.maximum(starts, begin), 0)
    return common
