"""Averages as the index keeps and compares them: float32, and finite.

Also decides which averages count as grey. Called when segments are built, buckets counted, queries prepared
or the head read.
"""

from __future__ import annotations

import numpy as np

from iqdb_core.index.rows import LARGEST_AVERAGE
from iqdb_core.kernel import kernel
from iqdb_core.model import is_grey

is_grey_image = kernel(inline=True)(is_grey)
"""`model.is_grey`, compiled."""


@kernel(inline=True)
def stored_average(average: float) -> float:
    """Return an average rounded as `rows.stored_averages` does."""
    return np.float64(np.float32(min(max(average, -LARGEST_AVERAGE), LARGEST_AVERAGE)))
