"""The heavy arithmetic on segments, each function in its compiled and its plain form.

Builds segments, finds ids, counts buckets and checks words. Parameters and results are described at the
compiled forms. Called by code above that is not compiled itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms
from iqdb_core.index.rows import Rows
from iqdb_core.index.segment.segment import Built
from iqdb_core.index.segment.table import SegmentTable

Located = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Segments and documents."""

build_segment: Final[Callable[[Rows], Built]] = two_forms(
    compiled="iqdb_core.index.segment.build:build_segment", plain="iqdb_core.index.plain.build:build_segment"
)
"""Build a segment of rows."""

locate: Final[Callable[[SegmentTable, NDArray[np.int64]], Located]] = two_forms(
    compiled="iqdb_core.index.segment.locate:locate", plain="iqdb_core.index.plain.segment:locate"
)
"""Find live images by id."""

count_images: Final[Callable[[NDArray[np.int32], NDArray[np.float64], NDArray[np.int16], int], int]] = (
    two_forms(
        compiled="iqdb_core.index.segment.buckets:count_images",
        plain="iqdb_core.index.plain.buckets:count_images",
    )
)
"""Count images into or out of their buckets."""
