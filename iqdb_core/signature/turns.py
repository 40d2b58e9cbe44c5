"""The signatures of a picture's mirrored, turned and inverted copies, from its own signature alone.

No pixels are needed: every coefficient of a turned picture is one of the picture's own, at another position
and perhaps with the opposite sign. Called in searches for turned copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.model import PLANE, SIDE, QuerySignature, Signature


class Turn(StrEnum):
    """What is done to a picture; rotations are clockwise."""

    NONE = "none"
    MIRROR = "mirror"
    """Left and right are exchanged."""
    FLIP = "flip"
    """Top and bottom are exchanged."""
    ROTATE_90 = "rotate90"
    ROTATE_180 = "rotate180"
    ROTATE_270 = "rotate270"
    TRANSPOSE = "transpose"
    """Rows become columns: mirrored at the diagonal from the upper left."""
    TRANSVERSE = "transverse"
    """Mirrored at the diagonal from the upper right."""

    @property
    def inverse(self) -> Turn:
        """The turn that undoes this one."""
        return _INVERSES.get(self, self)


_INVERSES: Final = {Turn.ROTATE_90: Turn.ROTATE_270, Turn.ROTATE_270: Turn.ROTATE_90}

_STEPS: Final = {
    Turn.NONE: (False, False, False),
    Turn.MIRROR: (False, True, False),
    Turn.FLIP: (False, False, True),
    Turn.ROTATE_90: (True, True, False),
    Turn.ROTATE_180: (False, True, True),
    Turn.ROTATE_270: (True, False, True),
    Turn.TRANSPOSE: (True, False, False),
    Turn.TRANSVERSE: (True, True, True),
}
"""Whether rows and columns are exchanged, and whether then columns, and rows, are reversed."""

_WHITE: Final = 255 * PLANE * 0.7071**14 / (256 * SIDE)
"""The Y average of a white picture: 0.996."""


def turned_signature(signature: Signature, turn: Turn, *, is_negative: bool = False) -> Signature:
    """Return the signature of the turned picture.

    Parameters
    ----------
    signature : Signature
    turn : Turn
    is_negative : bool
        Also replace every colour value v by 255 - v.

    Returns
    -------
    Signature
        Positions ascending in each channel.

    Notes
    -----
    Equal to hashing the turned pixels but for what rounding and equal coefficients decide. A flip is equal
    to the bit. Otherwise pixels are averaged in float32 in another order: of 644 turns of real pictures 6
    differed, by one position of 120 each, and 12 of 92 negatives, by up to seven, since values are rounded
    up at a half. Of equal coefficients those that come first are kept, and after a turn others are first:
    of flat pictures, and of the colours of grey ones, all positions may differ. A coefficient of exactly 0
    counts as negative, before and after.
    """
    if turn is Turn.NONE and not is_negative:
        return signature
    signed = signature.signed_positions()
    moved = _TABLES[turn][np.abs(signed)] * np.sign(signed)
    y, i, q = signature.averages
    if is_negative:
        moved = -moved
        y, i, q = _WHITE - y, -i, -q
    moved.sort(axis=1)
    return Signature((y, i, q), moved.astype("<i2").tobytes())


def turned(queries: Sequence[QuerySignature], turns: str | None = None) -> list[QuerySignature]:
    """Return the query signatures, followed by those of their turns that are to be searched too.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The whole picture first, then its parts, the best guess first, then those that are uncropped; not
        turned.
    turns : str or None
        "none", "mirror" or "all"; the last two perhaps with ",negative" behind. None is "mirror".

    Returns
    -------
    list of QuerySignature
        "all" turns the whole picture and its two best parts in every way, and mirrors the other parts. What
        is uncropped is never turned: that would be many signatures for what is seldom searched.

    Raises
    ------
    ValueError
        Any other `turns`.
    """
    words = ("mirror" if turns is None else turns).split(",")
    if words[0] not in _CHOICES or words[1:] not in ([], ["negative"]):
        raise ValueError("turns is none, mirror or all, and may have ',negative' behind it")
    out = [*queries]
    for is_negative in (False, True) if len(words) > 1 else (False,):
        for number, one in enumerate(queries):
            if one.is_uncropped:
                continue
            for turn in _CHOICES[words[0] if number <= _TURNED_PARTS else min(words[0], "mirror", key=_many)]:
                if turn is not Turn.NONE or is_negative:
                    signature = turned_signature(one.signature, turn, is_negative=is_negative)
                    word = f"negative-{turn}" if is_negative else str(turn)
                    out.append(QuerySignature(signature, one.part, word, one.size))
    return out


_TURNED_PARTS: Final = 2
_CHOICES: Final = {
    "none": (Turn.NONE,),
    "mirror": (Turn.NONE, Turn.MIRROR),
    "all": tuple(Turn),
}


def _many(choice: str) -> int:
    return len(_CHOICES[choice])


def _table(turn: Turn) -> NDArray[np.int16]:
    """Return where a turn sends each of the 16,384 positions, negated where the sign changes."""
    is_transposed, is_mirrored, is_flipped = _STEPS[turn]
    rows, columns = np.divmod(np.arange(PLANE), SIDE)
    if is_transposed:
        rows, columns = columns, rows
    signs = np.ones(PLANE, np.int64)
    if is_mirrored:
        signs = np.where(columns >= 1, -signs, signs)
        columns = _reversed(columns)
    if is_flipped:
        signs = np.where(rows >= 1, -signs, signs)
        rows = _reversed(rows)
    table: NDArray[np.int16] = (signs * (rows * SIDE + columns)).astype(np.int16)
    return table


def _reversed(along: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where row or column numbers go when the picture is reversed along that axis.

    Numbers from 2**j to 2**(j + 1) are the differences of neighbours of one size, from one end of the picture
    to the other; number 0 is the sum.
    """
    bands = np.left_shift(1, np.frompyfunc(int.bit_length, 1, 1)(along.astype(object)).astype(np.int64)) // 2
    return np.where(along == 0, 0, 3 * bands - 1 - along)


_TABLES: Final = {turn: _table(turn) for turn in Turn}
