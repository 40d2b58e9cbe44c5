"""Finds live images: from ids to documents, over all segments of a snapshot in one compiled call.

There is no table from ids to documents, which would cost bytes for every image: each segment's ids ascend, so
a binary search finds one in a few steps. Called for deletes, replacements and `get`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.layout import H_IDS_AT, H_IMAGES
from iqdb_core.index.segment.postings import segment_at
from iqdb_core.index.simd.memory import read_only
from iqdb_core.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.segment.table import SegmentTable


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
        By ascending segment, in each by ascending document. Images that are not alive are left out.
    """
    segments = np.empty(len(image_ids), dtype=np.int32)
    documents = np.empty(len(image_ids), dtype=np.int32)
    n_found = find_live(table.addresses, read_only(image_ids), segments, documents)
    return segments[:n_found], documents[:n_found]


@kernel()
def find_live(
    addresses: NDArray[np.uint64],
    image_ids: NDArray[np.int64],
    segments: NDArray[np.int32],
    documents: NDArray[np.int32],
) -> int:
    """Fill `segments` and `documents` as `locate` describes; return how many were found.

    Notes
    -----
    Reads the memory that `addresses`, of a SegmentTable, point to: the caller keeps the table alive.
    """
    n_found = 0
    for segment in range(addresses.shape[0]):
        view = segment_at(addresses, segment)
        ids_at = np.int64(view.words[H_IDS_AT])
        held = view.words[ids_at : ids_at + np.int64(view.words[H_IMAGES])].view(np.int64)
        low = 0
        for wanted in range(_first_from(image_ids, 0, held[0]), len(image_ids)):
            image_id = image_ids[wanted]
            if image_id > held[-1]:
                break
            low = _first_from(held, low, image_id)
            is_alive = (view.alive[low >> 6] >> np.uint64(low & 63)) & np.uint64(1) != 0
            if held[low] == image_id and is_alive:
                segments[n_found] = segment
                documents[n_found] = low
                n_found += 1
    return n_found


@kernel()
def _first_from(ascending: NDArray[np.int64], low: int, value: int) -> int:
    """Return the first place from `low` on whose value is not below `value`, or the length."""
    high = len(ascending)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
