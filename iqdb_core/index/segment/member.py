"""A segment as the index keeps it, and as one snapshot sees it.

Joins a segment with its number, its signatures and the checksums of its files, and says which images are
alive. Does not know where signatures are read from: `SignatureRows` hides it. Used by all code above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from iqdb_core.index.segment import alive as bitmap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures
    from iqdb_core.index.segment.segment import Segment
    from iqdb_core.model import Signature


class SignatureRows(Protocol):
    """The signatures of one segment in document order, in memory or in a file; they never change."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Resident memory that the rows take."""
        ...

    def signature(self, doc_id: int) -> Signature:
        """Return the signature of one document."""
        ...

    def prefetch(self, first: int, last: int) -> None:
        """Begin to read documents `first` to `last`, inclusive, into memory; do not wait for them."""
        ...

    def prefetch_each(self, doc_ids: list[int]) -> None:
        """Begin to read a few documents that are not neighbours; do not wait for them."""
        ...

    def read(self, doc_ids: NDArray[np.int64]) -> Signatures:
        """Return the signatures of strictly ascending `doc_ids`."""
        ...

    def raw(self, doc_ids: list[int]) -> list[bytes]:
        """Return the records of a few documents, for `disk.signature_rows.signatures_in` to decode."""
        ...


@dataclass(eq=False, slots=True)
class SealedSegment:
    """One immutable segment; only the place where its signatures are read from may change.

    Parameters
    ----------
    number : int
        Names its files; never used twice in a directory.
    segment : Segment
        The searchable form, in memory.
    rows : SignatureRows
        The signatures in document order. Replaced by an equal one when they move from memory to a file.
    rows_checksum : int or None
        Of the file of signatures; None while there is no such file.
    words_checksum : int or None
        Of the file of the searchable form; None while there is no durable one.
    is_rows_durable : bool
        Whether the file of signatures is synced to disk, so that it survives a power cut.
    min_id, max_id : int
        The smallest and the largest image id, dead images included.
    """

    number: int
    segment: Segment
    rows: SignatureRows
    rows_checksum: int | None = None
    words_checksum: int | None = None
    is_rows_durable: bool = False
    min_id: int = field(init=False)
    max_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.min_id = int(self.segment.image_ids[0])
        self.max_id = int(self.segment.image_ids[-1])


@dataclass(frozen=True, slots=True)
class Member:
    """A sealed segment as one snapshot sees it.

    Parameters
    ----------
    sealed : SealedSegment
    alive : (n_words,) uint64 ndarray
        Which documents are alive; never changed in place.
    n_alive : int
        How many are alive.
    """

    sealed: SealedSegment
    alive: NDArray[np.uint64]
    n_alive: int

    @classmethod
    def all_alive(cls, sealed: SealedSegment) -> Member:
        """Return the member of a new segment, all of whose images are alive."""
        n_images = sealed.segment.n_images
        return cls(sealed, bitmap.all_alive(n_images, sealed.segment.n_words), n_images)

    @property
    def n_images(self) -> int:
        """Documents, dead ones included."""
        return self.sealed.segment.n_images

    @property
    def n_dead(self) -> int:
        """Documents that are dead."""
        return self.n_images - self.n_alive

    @property
    def nbytes(self) -> int:
        """Memory of the segment, including signatures that are not in a file."""
        return self.sealed.segment.nbytes + self.alive.nbytes + self.sealed.rows.nbytes

    def find(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the live documents, ascending, whose ids are among the strictly ascending `image_ids`."""
        start = np.searchsorted(image_ids, self.sealed.min_id, side="left")
        stop = np.searchsorted(image_ids, self.sealed.max_id, side="right")
        if start == stop:
            return np.empty(0, dtype=np.int64)
        found = np.asarray(self.sealed.segment.find(image_ids[start:stop]), dtype=np.int64)
        found = found[found >= 0]
        return found[bitmap.are_alive(self.alive, found)]

    def without(self, doc_ids: NDArray[np.int64]) -> Member:
        """Return this member with `doc_ids` dead; all of them must be alive."""
        if len(doc_ids) == 0:
            return self
        return Member(self.sealed, bitmap.without(self.alive, doc_ids), self.n_alive - len(doc_ids))
