"""Computations over every row of a picture, compiled when first needed.

Parameters and results are described in `lines`; `plain` is used until that is compiled. Importing this loads
no compiler. Called by the files that cut pictures into parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms

_LINES: Final = "iqdb_core.signature.parts.lines"
_PLAIN: Final = "iqdb_core.signature.parts.plain"


def contiguous(pixels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return pixels as the functions below take them: contiguous, and always read-only.

    What takes arrays of one kind only is compiled once; numba knows writable and read-only arrays apart.
    """
    rows = np.ascontiguousarray(pixels).view()
    rows.flags.writeable = False
    return rows


FlatRows = tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]
"""Which rows are flat, which ring, and of which colours they are."""

flat_rows: Final[Callable[[NDArray[np.uint32], int, int, int, int], FlatRows]] = two_forms(
    compiled=f"{_LINES}:flat_rows", plain=f"{_PLAIN}:flat_rows"
)
steps: Final[Callable[[NDArray[np.uint32], int, int, int, int], NDArray[np.float64]]] = two_forms(
    compiled=f"{_LINES}:steps", plain=f"{_PLAIN}:steps"
)
edge_shares: Final[Callable[[NDArray[np.uint32], int, int, int, int], NDArray[np.float64]]] = two_forms(
    compiled=f"{_LINES}:edge_shares", plain=f"{_PLAIN}:edge_shares"
)
