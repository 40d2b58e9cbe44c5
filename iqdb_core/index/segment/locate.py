"""Where live images are: from ids to documents, over all segments of a snapshot in one compiled call.

Answers: which segment and document is image 17? There is no table from ids to places, which would cost every
image some bytes: each segment's ids ascend, so a few steps of bisection find one. Called for deletes,
replacements and `get`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.find_live import find_live
from iqdb_core.index.simd.memory import read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.ranking.search import SegmentTable


def locate(table: SegmentTable, image_ids: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return where the live ones among `image_ids` are.

    Parameters
    ----------
    table : SegmentTable
        Of the snapshot; an image lives in at most one of its segments.
    image_ids : (n,) int64 ndarray
        Strictly ascending.

    Returns
    -------
    segments, documents : (m,) int32 ndarray, m <= n
        By ascending segment, in each by ascending document. Images that do not live in a segment are left
        out.
    """
    segments = np.empty(len(image_ids), dtype=np.int32)
    documents = np.empty(len(image_ids), dtype=np.int32)
    n_found = find_live(table.addresses, read_only(image_ids), segments, documents)
    return segments[:n_found], documents[:n_found]
