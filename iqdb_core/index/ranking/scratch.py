"""The scratch memory of one thread, kept between queries.

Each part is described and made by the file that fills it. Made by `search`, passed down by `query_call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.ranking.exact import Scoring, create_scoring
from iqdb_core.index.ranking.head_rows import create_weights
from iqdb_core.index.ranking.lookup import Lookup, create_lookup
from iqdb_core.index.ranking.query import MOST_BUCKETS, Query, create_query
from iqdb_core.index.ranking.rare_bits import RareBits, create_rare_bits
from iqdb_core.index.ranking.row_order import RowOrder, create_row_order
from iqdb_core.index.ranking.vectors import Vectors, create_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Scratch(NamedTuple):
    """Memory of one thread.

    Parameters
    ----------
    query : Query
    entries : (n_segments * 120,) int64 ndarray
        Per segment of this thread and bucket of the query: the number of its entry, later the entry; NO_ENTRY
        if there is none.
    lookup : Lookup
    order : RowOrder
    rare : RareBits
    vectors : Vectors
    scoring : Scoring
    weights : (114,689,) uint8 ndarray
        Per bucket, all zero between queries; see `scan_head`.
    """

    query: Query
    entries: NDArray[np.int64]
    lookup: Lookup
    order: RowOrder
    rare: RareBits
    vectors: Vectors
    scoring: Scoring
    weights: NDArray[np.uint8]


def create_scratch(n_segments: int) -> Scratch:
    """Return memory for one thread and up to `n_segments` segments."""
    return Scratch(
        create_query(),
        np.zeros(n_segments * MOST_BUCKETS, dtype=np.int64),
        create_lookup(),
        create_row_order(),
        create_rare_bits(),
        create_vectors(),
        create_scoring(),
        create_weights(),
    )
