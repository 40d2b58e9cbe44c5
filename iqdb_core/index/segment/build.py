"""Making segments.

Answers: what are the words of a segment with these images? Takes everything at once and never changes a
segment that exists. Called by the sealer, for a full head, a bulk load or a merge; releases the GIL for
nearly all of its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.segment import layout
from iqdb_core.index.segment.averages import stored_averages
from iqdb_core.index.segment.buckets import count_buckets
from iqdb_core.index.segment.colour_order import order_by_colour
from iqdb_core.index.segment.placement import (
    place_colours,
    place_entries,
    place_postings,
    plan_forms,
    plan_places,
)
from iqdb_core.index.segment.segment import Segment
from iqdb_core.index.simd.memory import aligned_zeros
from iqdb_core.model import BUCKETS, CHANNELS, KEPT, is_grey

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from iqdb_core.index.rows import Rows


class Built(NamedTuple):
    """What `build_segment` makes.

    Parameters
    ----------
    segment : Segment
    counts : (98,304,) int32 ndarray
        How many of its images hold each bucket.
    """

    segment: Segment
    counts: NDArray[np.int32]


def build_segment(images: Rows, *, allocate: Callable[[int], NDArray[np.uint64]] = aligned_zeros) -> Built:
    """Build a segment.

    Parameters
    ----------
    images : Rows
        1..65,536, ids strictly ascending: document d is the d-th. Averages are finite; an image whose
        |I| + |Q| is below 6/1000 is grey: only its Y positions are indexed. Positions are 1..16383 in
        magnitude, in any order; one that occurs twice in a channel counts once.
    allocate : callable
        Returns so many zeroed words, which become the segment's own.

    Returns
    -------
    Built

    Raises
    ------
    ValueError
        The arrays are not of this kind.
    """
    _check(images)
    n = len(images)
    positions = np.ascontiguousarray(images.positions)
    is_grey_row = is_grey(images.averages[:, 1], images.averages[:, 2])
    stored = stored_averages(images.averages)
    counts = np.zeros(BUCKETS, dtype=np.int32)
    if not count_buckets(positions, is_grey_row, counts):
        raise ValueError("positions are 1..16383 in magnitude")
    rows = np.empty(BUCKETS, dtype=np.int32)
    lists = np.empty(BUCKETS, dtype=np.int32)
    n_vectors = -(-n // layout.VECTOR_IMAGES)
    n_pages = -(-n // layout.PAGE_IMAGES)
    n_rows, n_entries, n_grouped_words, n_rare = plan_forms(counts, n_vectors, n_pages, rows, lists)
    offsets = layout.section_offsets(n, n_rows, n_entries, n_grouped_words, -(-n_rare // 4))
    words = allocate(offsets[-1])
    words[layout.H_MAGIC] = layout.SEGMENT_MAGIC
    words[layout.H_VERSION] = layout.SEGMENT_VERSION
    words[layout.H_WORDS] = offsets[-1]
    words[layout.H_IMAGES] = n
    words[layout.H_VECTORS] = n_vectors
    words[layout.H_STRIDE] = layout.stride_of(n_vectors)
    words[layout.H_ROWS] = n_rows
    words[layout.H_ENTRIES] = n_entries
    words[list(layout.SECTIONS)] = offsets
    ids_at = int(words[layout.H_IDS_AT])
    words[ids_at : ids_at + n] = images.image_ids.view(np.uint64)
    order, n_grey = order_by_colour(stored, is_grey_row)
    place_entries(words, counts, rows, lists)
    places = np.empty(BUCKETS, dtype=np.uint32)
    grouped = np.empty((np.count_nonzero((rows >= 0) & (lists >= 0)), 4), dtype=np.int64)
    plan_places(words, counts, rows, lists, places, grouped)
    listed = np.empty(2 * (KEPT + 1), dtype=np.int64)
    place_postings(words, positions, is_grey_row, order, places, grouped, listed)
    place_colours(words, stored, order, n_grey)
    words.flags.writeable = False
    return Built(Segment(words), counts)


def _check(images: Rows) -> None:
    image_ids, averages, positions = images.image_ids, images.averages, images.positions
    n = len(image_ids)
    if not 1 <= n <= layout.SEGMENT_IMAGES:
        raise ValueError(f"a segment has 1..{layout.SEGMENT_IMAGES} images, not {n}")
    if averages.shape != (n, CHANNELS) or positions.shape != (n, CHANNELS, KEPT):
        raise ValueError("averages are (n, 3) and positions (n, 3, 40), with as many rows as ids")
    if [array.dtype.name for array in (image_ids, averages, positions)] != ["int64", "float64", "int16"]:
        raise ValueError("ids are int64, averages float64 and positions int16")
    if n > 1 and not (np.diff(image_ids) > 0).all():
        raise ValueError("image ids ascend strictly")
    if not np.isfinite(averages).all():
        raise ValueError("averages are finite")
