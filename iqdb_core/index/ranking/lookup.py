"""Finds a query's buckets in one segment.

Determines the rows and lists that the query reads, and upper bounds of what images can share. Once per query
and segment. Called by `query_call` (ahead of time) and `bounds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from iqdb_core.index.ranking.query import MOST_BUCKETS, Query
from iqdb_core.index.segment.layout import (
    GROUPED_BIT,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_RARE_AT,
    H_ROWS_AT,
    H_STRIDE,
)
from iqdb_core.index.segment.postings import (
    EXACT,
    GROUPED,
    NO_ENTRY,
    RARE,
    directory_at,
    entry_number,
    entry_of,
    form_of,
    rare_count,
    rare_offset,
)
from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.index.simd.vector import prefetch
from iqdb_core.index.simd.words import item
from iqdb_core.kernel import kernel
from iqdb_core.model import PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_EXACT, N_GROUPED, N_RARE, MOST, MOST_GREY, RARE_UNITS = range(6)
"""Places in `Lookup.numbers`."""
ROW, LIST, COUNT, WEIGHT, UNITS = range(5)
"""First index of `Lookup.exact`, `grouped` and `rare`."""


class Lookup(NamedTuple):
    """Where a query's buckets are in one segment; scratch of one thread.

    Parameters
    ----------
    numbers : (6,) int64 ndarray
        How many of the query's buckets are exact, grouped and rare in this segment; then upper bounds of the
        units that an image can share: any image, a grey one, and any image from rare buckets alone.
    exact, grouped, rare : (5, 120) int64 ndarray
        Rows: see the constants above. Where the row starts (exact and grouped, in words), where the list
        starts (in words if grouped, in uint16 units if rare), its length (rare), the weight in hundredths,
        the units (rare).
    row_of : (120,) int64 ndarray
        Per bucket of the query: where its row starts, or -1 if it has none.
    """

    numbers: NDArray[np.int64]
    exact: NDArray[np.int64]
    grouped: NDArray[np.int64]
    rare: NDArray[np.int64]
    row_of: NDArray[np.int64]


def create_lookup() -> Lookup:
    """Return memory for one thread."""
    return Lookup(
        np.zeros(6, dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros((5, MOST_BUCKETS), dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
    )


@kernel()
def prefetch_directory(words: NDArray[np.uint64], query: Query) -> None:
    """Prefetch what `prefetch_entries` reads."""
    for i in range(query.sizes[0]):
        prefetch(words, directory_at(query.buckets[i]))


@kernel()
def prefetch_entries(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64]) -> None:
    """Write the number of each bucket's entry to `entries`, and prefetch what `prefetch_lists` reads."""
    entries_at = np.int64(words[H_ENTRIES_AT])
    for i in range(query.sizes[0]):
        number = entry_number(words, query.buckets[i])
        entries[i] = number
        prefetch(words, entries_at + (number >> 1))


@kernel()
def prefetch_lists(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64]) -> None:
    """Replace each number by the entry itself, and prefetch what `resolve` and `write_rare` read."""
    grouped_at = np.int64(words[H_GROUPED_AT])
    rare_at = np.int64(words[H_RARE_AT])
    for i in range(query.sizes[0]):
        if entries[i] == NO_ENTRY:
            continue
        entry = entry_of(words, entries[i])
        entries[i] = entry
        form = form_of(entry)
        if form == GROUPED:
            prefetch(words, grouped_at + (entry ^ GROUPED_BIT))
        elif form == RARE:
            first = rare_at + (rare_offset(entry) >> 2)
            for k in range(0, rare_count(entry) + 4 * VECTOR_WORDS, 4 * VECTOR_WORDS):
                prefetch(words, first + (k >> 2))


@kernel()
def resolve(words: NDArray[np.uint64], query: Query, entries: NDArray[np.int64], lookup: Lookup) -> None:
    """Fill `lookup` for one segment.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    query : Query
    entries : (120,) int64 ndarray
        As `prefetch_lists` left them.
    lookup : Lookup
        **Changed in place.**
    """
    stride = np.int64(words[H_STRIDE])
    rows_at = np.int64(words[H_ROWS_AT])
    grouped_at = np.int64(words[H_GROUPED_AT])
    rare_at = np.int64(words[H_RARE_AT]) * 4
    n_exact = 0
    n_grouped = 0
    n_rare = 0
    most = 0
    most_grey = 0
    rare_units = 0
    for i in range(query.sizes[0]):
        entry = entries[i]
        lookup.row_of[i] = -1
        if entry == NO_ENTRY:
            continue
        units = query.units[i]
        most += units
        if query.buckets[i] < 2 * PLANE:
            most_grey += units
        form = form_of(entry)
        if form == EXACT:
            lookup.row_of[i] = rows_at + entry * stride
            lookup.exact[ROW, n_exact] = lookup.row_of[i]
            lookup.exact[WEIGHT, n_exact] = query.weights[i]
            n_exact += 1
        elif form == GROUPED:
            list_at = grouped_at + (entry ^ GROUPED_BIT)
            row = np.int64(item(words, list_at) & np.uint64(0xFFFFFFFF))
            lookup.row_of[i] = rows_at + row * stride
            lookup.grouped[ROW, n_grouped] = lookup.row_of[i]
            lookup.grouped[LIST, n_grouped] = list_at
            lookup.grouped[WEIGHT, n_grouped] = query.weights[i]
            n_grouped += 1
        else:
            lookup.rare[LIST, n_rare] = rare_at + rare_offset(entry)
            lookup.rare[COUNT, n_rare] = rare_count(entry)
            lookup.rare[WEIGHT, n_rare] = query.weights[i]
            lookup.rare[UNITS, n_rare] = units
            rare_units += units
            n_rare += 1
    lookup.numbers[N_EXACT] = n_exact
    lookup.numbers[N_GROUPED] = n_grouped
    lookup.numbers[N_RARE] = n_rare
    lookup.numbers[MOST] = most
    lookup.numbers[MOST_GREY] = most_grey
    lookup.numbers[RARE_UNITS] = rare_units
