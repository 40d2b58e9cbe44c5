"""Sealed segments as the index keeps them: searchable form, signatures and number; and what makes them.

Answers: how do these rows become a segment? Never decides when. Called by updates (a full head, a bulk load)
and by merges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.disk.signature_rows import FileRows, MemoryRows, write_rows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment.build import build_segment
from iqdb_core.index.simd.memory import allocate, read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.disk.directory import IndexDirectory
    from iqdb_core.index.disk.signature_rows import SignatureRows
    from iqdb_core.index.segment.segment import Segment

MEMORY_ROWS: Final = 4_096
"""Segments below this keep their signatures in memory until they are merged or saved."""


@dataclass(eq=False, slots=True)
class SealedSegment:
    """One immutable segment; what may change is where its signatures are read from.

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
        Whether the file of signatures survives a power cut.
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
        Which documents live; never changed in place.
    n_alive : int
        How many of them.
    """

    sealed: SealedSegment
    alive: NDArray[np.uint64]
    n_alive: int

    @classmethod
    def all_alive(cls, sealed: SealedSegment) -> Member:
        """Return a new segment's member: nothing of it has died."""
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
        """Memory of the segment, with its signatures as far as they are not in a file."""
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
        """Return this member with live documents `doc_ids` dead."""
        if len(doc_ids) == 0:
            return self
        return Member(self.sealed, bitmap.without(self.alive, doc_ids), self.n_alive - len(doc_ids))


class Sealer:
    """Makes sealed segments in one directory; may be called from several threads.

    Parameters
    ----------
    directory : IndexDirectory
        Where signatures go.
    """

    def __init__(self, directory: IndexDirectory) -> None:
        self.directory = directory

    def seal(
        self,
        image_ids: NDArray[np.int64],
        averages: NDArray[np.float64],
        positions: NDArray[np.int16],
        counts: NDArray[np.int32] | None = None,
    ) -> SealedSegment:
        """Build a segment and put its signatures beside it.

        Parameters
        ----------
        image_ids : (n,) int64 ndarray
            Strictly ascending, 1 <= n <= 65,536.
        averages : (n, 3) float64 ndarray
        positions : (n, 3, 40) int16 ndarray
        counts : (98,304,) int32 ndarray or None
            Zeros. **Changed in place**: how many of the images hold each bucket.

        Returns
        -------
        SealedSegment

        Raises
        ------
        OSError
            The signatures could not be written; nothing is left behind.
        """
        number = self.directory.next_number()
        image_ids, averages, positions = read_only(image_ids), read_only(averages), read_only(positions)
        if len(image_ids) < MEMORY_ROWS:
            segment = build_segment(image_ids, averages, positions, allocate=allocate, counts=counts)
            return SealedSegment(number, segment, MemoryRows(averages.copy(), positions.copy()))
        rows, rows_checksum = self._written(number, averages, positions)
        segment = build_segment(image_ids, averages, positions, allocate=allocate, counts=counts)
        return SealedSegment(number, segment, rows, rows_checksum=rows_checksum)

    def write_rows(self, sealed: SealedSegment) -> None:
        """Move the signatures of a segment from memory to a file, if they are not in one yet."""
        if isinstance(sealed.rows, MemoryRows):
            rows, checksum = self._written(sealed.number, sealed.rows.averages, sealed.rows.positions)
            sealed.rows_checksum = checksum
            sealed.rows = rows

    def _written(
        self, number: int, averages: NDArray[np.float64], positions: NDArray[np.int16]
    ) -> tuple[FileRows, int]:
        path = self.directory.rows(number)
        new = path.with_name(path.name + ".new")
        try:
            checksum = write_rows(new, averages, positions)
            new.rename(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return FileRows(path, len(averages)), checksum
