"""Unpacks the LZW codes of a GIF.

Called by `gif`, for files that Pillow cannot read to their end.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.kernel import kernel

_CODES: Final = 4096


@kernel(allocates=True)
def unpack_lzw(packed: NDArray[np.uint8], bits: int, out: NDArray[np.uint8]) -> int:  # noqa: C901 - one loop with its cases is what gets compiled
    """Unpack the LZW codes of a GIF, up to the first invalid one.

    Parameters
    ----------
    packed : (n,) uint8 ndarray, read-only
    bits : int
        Bits per pixel, 1..8.
    out : (pixels,) uint8 ndarray
        **Changed in place.**

    Returns
    -------
    int
        How many pixels there were, at most as many as fit.
    """
    clear = 1 << bits
    before = np.zeros(_CODES, np.int64)
    last = np.zeros(_CODES, np.uint8)
    lengths = np.ones(_CODES, np.int64)
    for code in range(clear):
        last[code] = code
    used, width = clear + 2, bits + 1
    previous = -1
    done = 0
    held = 0
    buffer = 0
    at = 0
    while done < len(out):
        while held < width and at < len(packed):
            buffer |= int(packed[at]) << held
            held += 8
            at += 1
        if held < width:
            break
        code = buffer & ((1 << width) - 1)
        buffer >>= width
        held -= width
        if code == clear:
            used, width, previous = clear + 2, bits + 1, -1
            continue
        if (
            code == clear + 1
            or code > used
            or (code == used and previous < 0)
            or (previous < 0 and code > clear)
        ):
            break
        if previous >= 0 and used < _CODES:
            before[used] = previous
            lengths[used] = lengths[previous] + 1
            first = code if code < used else previous
            while lengths[first] > 1:
                first = before[first]
            last[used] = last[first]
            used += 1
            if used == 1 << width and width < 12:
                width += 1
        elif code >= used:
            break
        place = done + lengths[code] - 1
        done += lengths[code]
        walk = code
        while place >= done - lengths[code]:
            if place < len(out):
                out[place] = last[walk]
            walk = before[walk]
            place -= 1
        previous = code
    return min(done, len(out))
