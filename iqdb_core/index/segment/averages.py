"""Averages as the index keeps and compares them: float32, and finite.

Answers: what is stored of an average, and does an image of these averages count as grey? Called by whoever
builds segments, counts buckets, prepares a query or reads the head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.kernel import kernel
from iqdb_core.model import is_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST: Final = float(np.finfo(np.float32).max)

is_grey_image = kernel(inline=True)(is_grey)
"""The test of `model`, compiled."""


def stored_averages(averages: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return averages as a segment keeps them."""
    return np.clip(averages, -_LARGEST, _LARGEST).astype(np.float32)


@kernel(inline=True)
def stored_average(average: float) -> float:
    """Return an average rounded as `stored_averages` does."""
    return np.float64(np.float32(min(max(average, -_LARGEST), _LARGEST)))
