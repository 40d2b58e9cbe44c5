"""What 16-bit grey looks like in 8 bits on white.

Knows no format. Called by `iqdb_core.signature.bands` only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WHITE: Final = 0xFFFFFFFF


def grey16_on_white(grey: NDArray[np.uint16], transparent: int) -> NDArray[np.uint32]:
    """Scale 16-bit grey to packed 8-bit pixels by its high byte, as Pillow scales 16-bit colours.

    Parameters
    ----------
    grey : (n, width) uint16 ndarray
    transparent : int
        The value that stands for transparent pixels, which become white; -1 if there is none.

    Returns
    -------
    (n, width) uint32 ndarray, C-contiguous
    """
    pixels = (grey >> np.uint16(8)).astype(np.uint32) * np.uint32(0x010101)
    if transparent >= 0:
        pixels[grey == transparent] = WHITE
    return pixels
