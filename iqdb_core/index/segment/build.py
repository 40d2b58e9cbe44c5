"""Builds segments.

Takes all images at once, and never changes an existing segment. Called by the sealer, for a full head, a bulk
load or a merge; releases the GIL for nearly all of its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.rows import stored_averages
from iqdb_core.index.segment import layout
from iqdb_core.index.segment.buckets import count_buckets
from iqdb_core.index.segment.colour_order import order_by_colour
from iqdb_core.index.segment.placement import (
    place_colours,
    place_entries,
    place_postings,
    plan_forms,
    plan_places,
)
from iqdb_core.index.segment.segment import Built, Segment, framed, require_images
from iqdb_core.model import BUCKETS, KEPT, is_grey

if TYPE_CHECKING:
    from iqdb_core.index.rows import Rows


def build_segment(images: Rows) -> Built:
    """Build a segment.

    Parameters
    ----------
    images : Rows
        1..65,536, ids strictly ascending: document d is the d-th. Averages are finite; an image whose
        |I| + |Q| is below 6/1000 is grey: only its Y positions are indexed. Positions are 1..16383 in
        magnitude, in any order; one that occurs twice in a channel counts once.

    Returns
    -------
    Built

    Raises
    ------
    ValueError
        The arrays violate one of these conditions.
    """
    require_images(images)
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
    words = framed(images.image_ids, n_rows, n_entries, n_grouped_words, -(-n_rare // 4))
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
