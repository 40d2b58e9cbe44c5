"""Makes sealed segments: the searchable form in memory, and the signatures in a file.

Does not decide when. Called by updates (a full head, a bulk load), by merges, and by the checkpoint for
signatures that are still in memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from iqdb_core.index.disk.signature_rows import FileRows, MemoryRows, write_rows
from iqdb_core.index.segment.arithmetic import build_segment
from iqdb_core.index.segment.member import Member, SealedSegment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from iqdb_core.index.disk.directory import IndexDirectory
    from iqdb_core.index.rows import Rows, Signatures

MEMORY_ROWS: Final = 4_096
"""Segments with fewer images keep their signatures in memory until they are merged or saved."""


class NewMember(NamedTuple):
    """A new segment.

    Parameters
    ----------
    member : Member
        All of its images are alive.
    counts : (98,304,) int32 ndarray
        How many of them hold each bucket.
    """

    member: Member
    counts: NDArray[np.int32]


class Sealer:
    """Makes sealed segments in one directory; may be called from several threads.

    Parameters
    ----------
    directory : IndexDirectory
        Where signatures go.
    """

    def __init__(self, directory: IndexDirectory) -> None:
        self.directory = directory

    def seal(self, rows: Rows) -> NewMember:
        """Build a segment and put its signatures beside it.

        Parameters
        ----------
        rows : Rows
            1..65,536 images, ids strictly ascending.

        Returns
        -------
        NewMember

        Raises
        ------
        OSError
            The signatures could not be written; no file of the segment remains.
        """
        number = self.directory.next_number()
        rows = rows.read_only()
        if len(rows) < MEMORY_ROWS:
            segment, counts = build_segment(rows)
            kept = MemoryRows(rows.signatures.copy())
            return NewMember(Member.all_alive(SealedSegment(number, segment, kept)), counts)
        try:
            # In parallel: they are independent, and release the GIL most of the time.
            with ThreadPoolExecutor(1, thread_name_prefix="rows-writer") as beside:
                writing = beside.submit(self._written, number, rows.signatures)
                segment, counts = build_segment(rows)
            written, rows_checksum = writing.result()
        except BaseException:
            self.directory.remove([number])
            raise
        sealed = SealedSegment(number, segment, written, rows_checksum=rows_checksum)
        return NewMember(Member.all_alive(sealed), counts)

    def write_rows(self, sealed: SealedSegment) -> None:
        """Move the signatures of a segment from memory to a file, if they are not in one yet."""
        if isinstance(sealed.rows, MemoryRows):
            rows, checksum = self._written(sealed.number, sealed.rows.signatures)
            sealed.rows_checksum = checksum
            sealed.rows = rows

    def _written(self, number: int, signatures: Signatures) -> tuple[FileRows, int]:
        path = self.directory.rows(number)
        new = path.with_name(path.name + ".new")
        try:
            checksum = write_rows(new, signatures)
            new.rename(path)
            rows = FileRows(path, len(signatures.averages), self.directory.files)
        except BaseException:
            new.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        return rows, checksum
