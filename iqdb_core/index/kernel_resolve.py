"""Where a query's buckets are in one segment, and the postings of its rare ones written out as bits.

Answers: which rows does this query read here, in which order, and how much can the rows still to come add? Once per query and segment.
Called by `kernel_scan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.index.compiled import kernel
from iqdb_core.index.kernel_planes import CHUNK, PLANES
from iqdb_core.index.kernel_postings import (
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
from iqdb_core.index.kernel_query import COLUMNS, MOST_BUCKETS, Query
from iqdb_core.index.kernel_vector import prefetch
from iqdb_core.index.layout import (
    GROUPED_BIT,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_RARE_AT,
    H_ROWS_AT,
    H_STRIDE,
    H_VECTORS,
    SEGMENT_IMAGES,
    VECTOR_IMAGES,
    VECTOR_WORDS,
)
from iqdb_core.model import PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray

RARE_PLANES: Final = 4
"""Units that rare buckets add up to at most, as bits; more is marked in one more plane."""
ROW_WORDS: Final = SEGMENT_IMAGES // 64
MOST_CHUNKS: Final = 4 * (MOST_BUCKETS // CHUNK) + 2 * COLUMNS
LOOK_AHEAD: Final = 3
"""Steps of looking up, each of which asks for the memory that the next reads: one segment is scanned in between."""
TURNS: Final = LOOK_AHEAD + 1
_ROW, _LIST, _COUNT, _WEIGHT = range(4)


class Found(NamedTuple):
    """What a query finds in a segment; scratch of one thread.

    Parameters
    ----------
    sizes : (3,) int64 ndarray
        How many of the query's buckets are exact, grouped and rare here.
    exact, grouped, rare : (4, 120) int64 ndarray
        Columns: where the row starts (in words), where the list starts (in words if grouped, in uint16 units if rare), its
        length (rare only), the weight in hundredths.
    ahead : (4, 120) int64 ndarray
        Of the segments to come, in turn: the number of each bucket's entry, later the entry; NO_ENTRY if there is none.
    row_of : (120,) int64 ndarray
        Per bucket of the query: where the row starts, or -1 if it has none.
    rows : (480,) int64 ndarray
        Rows in the order in which they are added, in chunks of eight; each chunk is of one power of two.
    ends : (6,) int64 ndarray
        Where in `rows` each part ends: eights, fours, the first of the twos and of the ones, the rest of the twos, of the ones.
    remaining : (61,) int64 ndarray
        Per chunk: the most units that the rows behind it can add.
    rare_bits : (5 * 1024,) uint64 ndarray
        Units of the rare buckets per slot, as four planes, and a fifth for slots that have 16 units or more.
    planes : (11 * 8,) uint64 ndarray
        Scratch for the planes of one vector, the images of it that may matter, and those of them to be scored next.
    penalties : (128,) float64 ndarray
        Least penalty of the images of each vector.
    vectors : (128,) int64 ndarray
        Vectors that may matter.
    """

    sizes: NDArray[np.int64]
    exact: NDArray[np.int64]
    grouped: NDArray[np.int64]
    rare: NDArray[np.int64]
    ahead: NDArray[np.int64]
    row_of: NDArray[np.int64]
    firsts: NDArray[np.int64]
    alls: NDArray[np.int64]
    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    remaining: NDArray[np.int64]
    rare_bits: NDArray[np.uint64]
    planes: NDArray[np.uint64]
    scratch: NDArray[np.uint64]
    slots: NDArray[np.int64]
    perhaps: NDArray[np.int64]
    penalties: NDArray[np.float64]
    vectors: NDArray[np.int64]


def aligned_zeros(n_words: int) -> NDArray[np.uint64]:
    """Return `n_words` zeroed words that start on a cache line."""
    padded = np.zeros(n_words + VECTOR_WORDS, dtype=np.uint64)
    first = -(padded.ctypes.data // 8) % VECTOR_WORDS
    return padded[first : first + n_words]


def create_found() -> Found:
    """Return scratch for one thread."""
    return Found(
        np.zeros(3, dtype=np.int64),
        np.zeros((4, MOST_BUCKETS), dtype=np.int64),
        np.zeros((4, MOST_BUCKETS), dtype=np.int64),
        np.zeros((4, MOST_BUCKETS), dtype=np.int64),
        np.zeros((TURNS, MOST_BUCKETS), dtype=np.int64),
        np.zeros(MOST_BUCKETS, dtype=np.int64),
        np.zeros(COLUMNS, dtype=np.int64),
        np.zeros(COLUMNS, dtype=np.int64),
        np.zeros(MOST_CHUNKS * CHUNK, dtype=np.int64),
        np.zeros(5, dtype=np.int64),
        np.zeros(MOST_CHUNKS + 1, dtype=np.int64),
        aligned_zeros((RARE_PLANES + 1) * ROW_WORDS),
        aligned_zeros(PLANES * ROW_WORDS),
        np.zeros((PLANES + 3) * VECTOR_WORDS, dtype=np.uint64),
        np.zeros(VECTOR_IMAGES, dtype=np.int64),
        np.zeros(MOST_BUCKETS + 1, dtype=np.int64),
        np.zeros(ROW_WORDS // VECTOR_WORDS),
        np.zeros(ROW_WORDS // VECTOR_WORDS + 1, dtype=np.int64),
    )


@kernel()
def look_ahead(words: NDArray[np.uint64], turn: int, query: Query, found: Found, step: int) -> None:
    """Look up a query's buckets in a segment that is scanned some time later.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    turn : int
        Which row of `found.ahead` is this segment's.
    query : Query
    found : Found
        **Changed in place**: `ahead`.
    step : int
        1 asks for the directory, 2 reads it and asks for the entries, 3 reads them and asks for the lists.
    """
    ahead = found.ahead[turn]
    if step == 1:
        for i in range(query.sizes[0]):
            prefetch(words, directory_at(query.buckets[i]))
    elif step == 2:
        entries_at = np.int64(words[H_ENTRIES_AT])
        for i in range(query.sizes[0]):
            ahead[i] = entry_number(words, query.buckets[i])
            prefetch(words, entries_at + (ahead[i] >> 1))
    else:
        grouped_at = np.int64(words[H_GROUPED_AT])
        rare_at = np.int64(words[H_RARE_AT])
        for i in range(query.sizes[0]):
            if ahead[i] == NO_ENTRY:
                continue
            entry = entry_of(words, ahead[i])
            ahead[i] = entry
            form = form_of(entry)
            if form == GROUPED:
                prefetch(words, grouped_at + (entry ^ GROUPED_BIT))
            elif form == RARE:
                first = rare_at + (rare_offset(entry) >> 2)
                last = first + (rare_count(entry) >> 2)
                for at in range(first, last + 1, VECTOR_WORDS):
                    prefetch(words, at)
                prefetch(words, last)


@kernel()
def resolve(words: NDArray[np.uint64], turn: int, query: Query, found: Found) -> tuple[int, int]:
    """Lay out what has to be added in a segment, after all steps of `look_ahead`.

    Parameters
    ----------
    words : (n_words,) uint64 ndarray
        The segment.
    turn : int
        As of `look_ahead`.
    query : Query
    found : Found
        **Changed in place**, all but `ahead`, `planes`, `penalties` and `vectors`.

    Returns
    -------
    int, int
        The most units that any image here can share, and that any grey image can.
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
    for i in range(query.sizes[0]):
        entry = found.ahead[turn, i]
        found.row_of[i] = -1
        if entry == NO_ENTRY:
            continue
        most += query.units[i]
        if query.buckets[i] < 2 * PLANE:
            most_grey += query.units[i]
        form = form_of(entry)
        if form == EXACT:
            found.row_of[i] = rows_at + entry * stride
            found.exact[_ROW, n_exact] = found.row_of[i]
            found.exact[_WEIGHT, n_exact] = query.weights[i]
            n_exact += 1
        elif form == GROUPED:
            list_at = grouped_at + (entry ^ GROUPED_BIT)
            found.row_of[i] = rows_at + np.int64(words[list_at] & np.uint64(0xFFFFFFFF)) * stride
            found.grouped[_ROW, n_grouped] = found.row_of[i]
            found.grouped[_LIST, n_grouped] = list_at
            found.grouped[_WEIGHT, n_grouped] = query.weights[i]
            n_grouped += 1
        else:
            found.rare[_LIST, n_rare] = rare_at + rare_offset(entry)
            found.rare[_COUNT, n_rare] = rare_count(entry)
            found.rare[_WEIGHT, n_rare] = query.weights[i]
            found.rare[_ROW, n_rare] = query.units[i]
            n_rare += 1
    found.sizes[0] = n_exact
    found.sizes[1] = n_grouped
    found.sizes[2] = n_rare
    _lay_out(query, found, rows_at)
    _write_rare(words, found)
    return most, most_grey


@kernel()
def _lay_out(query: Query, found: Found, empty_row: int) -> None:
    """Fill `rows`, `ends` and `remaining`."""
    n_low = query.sizes[1]
    firsts = found.firsts
    alls = found.alls
    for j in range(COLUMNS):
        n_first = 0
        n_all = 0
        for k in range(1, query.columns[j, 0] + 1):
            i = query.columns[j, k]
            if found.row_of[i] >= 0:
                n_all += 1
                n_first += i < n_low
        alls[j] = n_all
        firsts[j] = ((n_first if j < 2 else n_all) + CHUNK - 1) // CHUNK * CHUNK
    found.ends[0] = firsts[2]
    found.ends[1] = found.ends[0] + firsts[1]
    found.ends[2] = found.ends[1] + firsts[0]
    found.ends[3] = found.ends[2] + max(alls[1] - firsts[1] + CHUNK - 1, 0) // CHUNK * CHUNK
    found.ends[4] = found.ends[3] + max(alls[0] - firsts[0] + CHUNK - 1, 0) // CHUNK * CHUNK
    n_chunks = found.ends[4] // CHUNK
    for chunk in range(n_chunks):
        found.remaining[chunk] = 0
    for k in range(found.ends[4]):
        found.rows[k] = empty_row
    for j in range(COLUMNS):
        first_at = 0 if j == 2 else found.ends[1 - j]
        rest_at = found.ends[3 - j] if j < 2 else 0
        n = 0
        for k in range(1, query.columns[j, 0] + 1):
            row = found.row_of[query.columns[j, k]]
            if row < 0:
                continue
            at = first_at + n if n < firsts[j] else rest_at + n - firsts[j]
            found.rows[at] = row
            found.remaining[at // CHUNK] += 1 << j
            n += 1
    found.remaining[MOST_CHUNKS] = 0
    # From what each chunk adds to what those behind it add.
    behind = 0
    for chunk in range(n_chunks - 1, -1, -1):
        added = found.remaining[chunk]
        found.remaining[chunk] = behind
        behind += added
    found.remaining[MOST_CHUNKS] = behind


@kernel()
def _write_rare(words: NDArray[np.uint64], found: Found) -> None:
    """Fill `rare_bits` with the units of every posting of a rare bucket."""
    n_words = np.int64(words[H_VECTORS]) * VECTOR_WORDS
    bits = found.rare_bits
    for plane in range(RARE_PLANES + 1):
        part = bits[plane * ROW_WORDS : plane * ROW_WORDS + n_words]
        for i in range(n_words):
            part[i] = np.uint64(0)
    slots = words.view(np.uint16)
    for k in range(found.sizes[2]):
        first = found.rare[_LIST, k]
        units = found.rare[_ROW, k]
        for j in range(RARE_PLANES):
            if not units & (1 << j):
                continue
            plane = j * ROW_WORDS
            for i in range(found.rare[_COUNT, k]):
                slot = np.uint64(slots[np.uint64(first + i)])
                carry = np.uint64(1) << (slot & np.uint64(63))
                word = np.uint64(plane) + (slot >> np.uint64(6))
                before = bits[word]
                bits[word] = before ^ carry
                if before & carry:
                    _carry_rare(bits, word, carry)


@kernel()
def _carry_rare(bits: NDArray[np.uint64], word: int, carry: np.uint64) -> None:
    """Carry a bit into the plane above that of a word, and on; out of the last one into that of overflows."""
    word += np.uint64(ROW_WORDS)
    while word < np.uint64(RARE_PLANES * ROW_WORDS):
        before = bits[word]
        bits[word] = before ^ carry
        if not before & carry:
            return
        word += np.uint64(ROW_WORDS)
    bits[word] |= carry
