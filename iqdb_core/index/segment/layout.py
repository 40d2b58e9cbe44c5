"""The layout of the words of a segment.

Constants and arithmetic only: knows no array. Used by code that builds, checks or reads segments.

A *document* is an image of the segment; its id is its rank by image id. A *slot* is its place in the bitmaps:
there, images of similar colour are neighbours, so that 512 of them (a *vector*, one cache line of each row)
can be skipped at once. A *row* is a bitmap with one bit per slot.

    header       HEADER_WORDS words, see the H_ constants; offsets are in words from the start
    directory    two words per 64 buckets: a bitmap of those that some document holds, and the number of held
                 buckets before them
    entries      uint32 per held bucket, ascending: where its posting list is, in one of three forms:
                   exact    common buckets: a row of their own
                   grouped  less common ones: a row shared with other buckets, and a list of their own slots
                   rare     all others: a list alone
    grouped      per bucket, word 0: row | count << 32; then per page of 256 slots one 1 bit for each posting
                 and a 0; then the low byte of each slot
    rare         uint16 slots
    boxes        float32, least and greatest Y, I and Q average of each vector: 6 x n_vectors
    colourless   bit per vector whose documents are all grey
    averages     float32, (n_images, 3), in slot order
    image_ids    int64, ascending: document order
    documents    uint16: the document of each slot
    rows         n_rows bitmaps, `stride` words apart, starting on a cache line; row 0 is empty
"""

from __future__ import annotations

from typing import Final

from iqdb_core.index.simd.memory import VECTOR_WORDS
from iqdb_core.model import BUCKETS

SEGMENT_IMAGES: Final = 65_536
"""Most images of one segment: slots and documents fit 16 bits."""
VECTOR_IMAGES: Final = VECTOR_WORDS * 64
PAGE_IMAGES: Final = 256

SEGMENT_MAGIC: Final = int.from_bytes(b"IQDBSEGM", "little")
SEGMENT_VERSION: Final = 1
HEADER_WORDS: Final = 32
(
    H_MAGIC,
    H_VERSION,
    H_WORDS,
    H_IMAGES,
    H_VECTORS,
    H_STRIDE,
    H_ROWS,
    H_ENTRIES,
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_RARE_AT,
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_AVERAGES_AT,
    H_IDS_AT,
    H_DOCUMENTS_AT,
    H_ROWS_AT,
    H_END_AT,
) = range(18)
DIRECTORY_AT: Final = HEADER_WORDS
DIRECTORY_WORDS: Final = BUCKETS // 64 * 2

RARE_BIT: Final = 1 << 31
"""Set in an entry: rare, with the count in bits 23..30 and the offset in uint16 units below."""
RARE_COUNT_SHIFT: Final = 23
GROUPED_BIT: Final = 1 << 30
"""Set in an entry that is not rare: grouped, with the offset in words below. An entry with neither bit is the
number of an exact row."""

SECTIONS: Final = (
    H_ENTRIES_AT,
    H_GROUPED_AT,
    H_RARE_AT,
    H_BOXES_AT,
    H_COLOURLESS_AT,
    H_AVERAGES_AT,
    H_IDS_AT,
    H_DOCUMENTS_AT,
    H_ROWS_AT,
    H_END_AT,
)


def stride_of(n_vectors: int) -> int:
    """Return the words from one row to the next.

    An odd number of cache lines in large segments, so that rows do not all map to the same few cache sets.
    """
    padded = n_vectors + 1 if n_vectors >= 16 and n_vectors % 2 == 0 else n_vectors
    return padded * VECTOR_WORDS


def section_offsets(
    n_images: int, n_rows: int, n_entries: int, n_grouped_words: int, n_rare_words: int
) -> list[int]:
    """Return where each section starts, in words, in the order of the H_..._AT constants.

    The last is the end of the segment.
    """
    n_vectors = -(-n_images // VECTOR_IMAGES)
    entries_at = DIRECTORY_AT + DIRECTORY_WORDS
    grouped_at = entries_at + -(-n_entries // 2)
    rare_at = grouped_at + n_grouped_words
    boxes_at = rare_at + n_rare_words
    colourless_at = boxes_at + 3 * n_vectors
    averages_at = colourless_at + -(-n_vectors // 64)
    ids_at = averages_at + -(-3 * n_images // 2)
    documents_at = ids_at + n_images
    rows_at = -(-(documents_at + -(-n_images // 4)) // VECTOR_WORDS) * VECTOR_WORDS
    end_at = rows_at + n_rows * stride_of(n_vectors)
    return [
        entries_at,
        grouped_at,
        rare_at,
        boxes_at,
        colourless_at,
        averages_at,
        ids_at,
        documents_at,
        rows_at,
        end_at,
    ]
