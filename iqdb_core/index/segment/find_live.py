"""Finding images by id: the compiled half of `locate`.

Answers: in which of these segments, and at which document, does each of these ids live? Called by `locate`
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.layout import H_IDS_AT, H_IMAGES
from iqdb_core.index.simd.compiled import kernel
from iqdb_core.index.simd.words import words_at

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    Reads the memory that `addresses`, of a SegmentTable, point to: the caller keeps the table.
    """
    n_found = 0
    for segment in range(addresses.shape[0]):
        words = words_at(addresses[segment, 0], addresses[segment, 1])
        alive = words_at(addresses[segment, 2], addresses[segment, 3])
        ids_at = np.int64(words[H_IDS_AT])
        held = words[ids_at : ids_at + np.int64(words[H_IMAGES])].view(np.int64)
        low = 0
        for wanted in range(_first_from(image_ids, 0, held[0]), len(image_ids)):
            image_id = image_ids[wanted]
            if image_id > held[-1]:
                break
            low = _first_from(held, low, image_id)
            is_alive = (alive[low >> 6] >> np.uint64(low & 63)) & np.uint64(1) != 0
            if held[low] == image_id and is_alive:
                segments[n_found] = segment
                documents[n_found] = low
                n_found += 1
    return n_found


@kernel()
def _first_from(ascending: NDArray[np.int64], low: int, value: int) -> int:
    """Return the first place from `low` on whose content is not below `value`, or the length."""
    high = len(ascending)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
