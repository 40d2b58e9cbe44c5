"""An immutable, searchable set of up to 65,536 images in one flat array of words.

Checks words that come from a file, and finds images by id. The layout is described in `layout`. Never builds
(see `build`) and never ranks. Called by the rest of the index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iqdb_core.errors import IndexStateError
from iqdb_core.forms import two_forms
from iqdb_core.index.rows import Rows
from iqdb_core.index.segment.layout import (
    DIRECTORY_WORDS,
    H_BOXES_AT,
    H_ENTRIES,
    H_GROUPED_AT,
    H_IDS_AT,
    H_IMAGES,
    H_MAGIC,
    H_RARE_AT,
    H_ROWS,
    H_STRIDE,
    H_VECTORS,
    H_VERSION,
    H_WORDS,
    HEADER_WORDS,
    SECTIONS,
    SEGMENT_IMAGES,
    SEGMENT_MAGIC,
    SEGMENT_VERSION,
    VECTOR_IMAGES,
    section_offsets,
    stride_of,
)
from iqdb_core.index.simd.memory import VECTOR_WORDS, allocate
from iqdb_core.model import BUCKETS, CHANNELS, KEPT

are_postings_valid: Final[Callable[[int, int], bool]] = two_forms(
    compiled="iqdb_core.index.segment.postings:are_postings_valid",
    plain="iqdb_core.index.plain.segment:are_postings_valid",
)
checksum_words: Final[Callable[[NDArray[np.uint64]], int]] = two_forms(
    compiled="iqdb_core.index.simd.words:checksum_words", plain="iqdb_core.index.plain.segment:checksum_words"
)


class Segment:
    """Words that have been checked, and the parts of them that Python needs.

    Parameters
    ----------
    words : (n,) uint64 ndarray, C-contiguous, may be read-only
        Kept, not copied. Made by `build_segment`, perhaps read back from a file.

    Notes
    -----
    Nothing is checked here; use `from_words` for words from outside this process.
    """

    __slots__ = ("image_ids", "n_images", "n_words", "words")

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words: Final = words
        self.n_images: Final = int(words[H_IMAGES])
        self.n_words: Final = int(words[H_VECTORS]) * VECTOR_WORDS
        """Words of a bitmap with one bit per document, such as the alive bitmap."""
        ids_at = int(words[H_IDS_AT])
        self.image_ids: Final = words[ids_at : ids_at + self.n_images].view(np.int64)
        """(n_images,) int64, strictly ascending."""

    @classmethod
    def from_words(cls, words: NDArray[np.uint64]) -> Segment:
        """Check words and make a segment of them.

        Parameters
        ----------
        words : (n,) uint64 ndarray, C-contiguous, may be read-only
            Kept, not copied.

        Returns
        -------
        Segment

        Raises
        ------
        IndexStateError
            The words are not a segment, of another version, or point outside themselves. Words that pass
            cannot make a kernel read or write out of bounds; only a checksum tells if they are unchanged.
        """
        _require(words.dtype == np.uint64 and words.ndim == 1, "is not an array of words")
        _require(len(words) >= HEADER_WORDS + DIRECTORY_WORDS, "is too short")
        _require(int(words[H_MAGIC]) == SEGMENT_MAGIC, "is not a segment")
        version = int(words[H_VERSION])
        _require(version == SEGMENT_VERSION, f"has version {version}, not {SEGMENT_VERSION}")
        _require(int(words[H_WORDS]) == len(words), "is cut short")
        n_images = int(words[H_IMAGES])
        _require(1 <= n_images <= SEGMENT_IMAGES, f"has {n_images} images")
        _require(int(words[H_ENTRIES]) <= BUCKETS and int(words[H_ROWS]) <= BUCKETS, "has too many buckets")
        expected = section_offsets(
            n_images,
            int(words[H_ROWS]),
            int(words[H_ENTRIES]),
            int(words[H_RARE_AT]) - int(words[H_GROUPED_AT]),
            int(words[H_BOXES_AT]) - int(words[H_RARE_AT]),
        )
        _require([int(words[at]) for at in SECTIONS] == expected, "has misplaced sections")
        _require(expected[-1] == len(words), "has misplaced sections")
        n_vectors = -(-n_images // VECTOR_IMAGES)
        _require(int(words[H_VECTORS]) == n_vectors, "has another number of vectors than its images need")
        _require(
            int(words[H_STRIDE]) == stride_of(n_vectors), "has rows of another length than its images need"
        )
        _require(
            bool(are_postings_valid(words.ctypes.data, len(words))), "has postings that point outside it"
        )
        return cls(words)

    @property
    def nbytes(self) -> int:
        """Memory of all words."""
        return self.words.nbytes

    def find(self, image_ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the document of each image id, or -1 where there is none.

        Parameters
        ----------
        image_ids : (n,) int64 ndarray
            In any order.

        Returns
        -------
        (n,) int32 ndarray
        """
        nearest = np.minimum(np.searchsorted(self.image_ids, image_ids), self.n_images - 1)
        found: NDArray[np.int32] = np.where(self.image_ids[nearest] == image_ids, nearest, -1).astype(
            np.int32
        )
        return found


class Built(NamedTuple):
    """The result of building a segment.

    Parameters
    ----------
    segment : Segment
    counts : (98,304,) int32 ndarray
        How many of its images hold each bucket.
    """

    segment: Segment
    counts: NDArray[np.int32]


def require_images(images: Rows) -> None:
    """Raise ValueError unless these can become a segment; see `build_segment`. Positions are not checked."""
    image_ids, averages, positions = images.image_ids, images.averages, images.positions
    n = len(image_ids)
    if not 1 <= n <= SEGMENT_IMAGES:
        raise ValueError(f"a segment has 1..{SEGMENT_IMAGES} images, not {n}")
    if averages.shape != (n, CHANNELS) or positions.shape != (n, CHANNELS, KEPT):
        raise ValueError("averages are (n, 3) and positions (n, 3, 40), with as many rows as ids")
    if [array.dtype.name for array in (image_ids, averages, positions)] != ["int64", "float64", "int16"]:
        raise ValueError("ids are int64, averages float64 and positions int16")
    if n > 1 and not (np.diff(image_ids) > 0).all():
        raise ValueError("image ids ascend strictly")
    if not np.isfinite(averages).all():
        raise ValueError("averages are finite")


def framed(
    image_ids: NDArray[np.int64], n_rows: int, n_entries: int, n_grouped_words: int, n_rare_words: int
) -> NDArray[np.uint64]:
    """Return the words of a segment in a memory mapping: header and ids are filled in, all else is zero."""
    n = len(image_ids)
    offsets = section_offsets(n, n_rows, n_entries, n_grouped_words, n_rare_words)
    n_vectors = -(-n // VECTOR_IMAGES)
    words = allocate(offsets[-1])
    words[H_MAGIC] = SEGMENT_MAGIC
    words[H_VERSION] = SEGMENT_VERSION
    words[H_WORDS] = offsets[-1]
    words[H_IMAGES] = n
    words[H_VECTORS] = n_vectors
    words[H_STRIDE] = stride_of(n_vectors)
    words[H_ROWS] = n_rows
    words[H_ENTRIES] = n_entries
    words[list(SECTIONS)] = offsets
    ids_at = int(words[H_IDS_AT])
    words[ids_at : ids_at + n] = image_ids.view(np.uint64)
    return words


def checksum(words: NDArray[np.uint64]) -> int:
    """Return a 64-bit checksum of words, at about the speed of reading them; see `checksum_words`."""
    return int(checksum_words(words))


def _require(is_so: bool, complaint: str) -> None:
    if not is_so:
        raise IndexStateError(f"the segment {complaint}")
