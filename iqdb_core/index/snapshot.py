"""The state that a query reads: sealed segments with their alive bitmaps, a view of the head, and its seq.

Answers all queries about the index at one moment. Never changes; `ImageIndex` replaces it whole. Called by
any number of threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.signature_rows import MemoryRows, signatures_in
from iqdb_core.index.evidence.copies import CopyFilter, find_copies
from iqdb_core.index.evidence.likelihood import Population
from iqdb_core.index.head import Head
from iqdb_core.index.ranking.arithmetic import find_sharers, search
from iqdb_core.index.rows import Signatures
from iqdb_core.index.segment.arithmetic import locate
from iqdb_core.index.segment.table import SegmentTable
from iqdb_core.model import Match

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from iqdb_core.index.query_threads import QueryThreads
    from iqdb_core.index.ranking.arithmetic import Columns, DistinctiveBuckets
    from iqdb_core.index.segment.member import Member, SignatureRows
    from iqdb_core.model import Copies, Mark, QuerySignature, Signature


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The index at one moment. Made by `create`.

    Parameters
    ----------
    members : tuple of Member
        Sealed segments, each with at least one document.
    table : SegmentTable
        The addresses of all members, for compiled code.
    head : Head
    nonempty : (98,304,) bool ndarray
        Which buckets some live image holds.
    applied_seq : int
        It contains every change up to this seq, and none after it.
    image_count : int
        Live images.
    lineage : Mark or None
        The newest mark at or below `applied_seq` of the store that is followed; None if not known.
    """

    members: tuple[Member, ...]
    table: SegmentTable
    head: Head
    nonempty: NDArray[np.bool_]
    applied_seq: int
    image_count: int
    lineage: Mark | None = None

    @classmethod
    def create(
        cls,
        members: tuple[Member, ...],
        head: Head,
        nonempty: NDArray[np.bool_],
        applied_seq: int,
        lineage: Mark | None = None,
    ) -> Snapshot:
        """Make a snapshot of sealed segments and a head."""
        table = SegmentTable.create(
            [member.sealed.segment for member in members], [member.alive for member in members]
        )
        image_count = head.n_alive + sum(member.n_alive for member in members)
        return cls(members, table, head, nonempty, applied_seq, image_count, lineage)

    def with_head(
        self, head: Head, nonempty: NDArray[np.bool_], applied_seq: int, lineage: Mark | None
    ) -> Snapshot:
        """Return a snapshot of the same sealed segments with another head, which reuses the table."""
        image_count = self.image_count - self.head.n_alive + head.n_alive
        return Snapshot(self.members, self.table, head, nonempty, applied_seq, image_count, lineage)

    @property
    def dead_images(self) -> int:
        """Deleted images that still take memory."""
        return sum(member.n_dead for member in self.members) + self.head.n_rows - self.head.n_alive

    @property
    def resident_bytes(self) -> int:
        """Memory of all parts, without signatures that are read from files."""
        return self.head.nbytes + self.nonempty.nbytes + sum(member.nbytes for member in self.members)

    def best_matches(
        self,
        signature: Signature,
        limit: int,
        min_score: float | None,
        threads: QueryThreads,
        *,
        is_sketch: bool = False,
    ) -> list[Match]:
        """Return the best live images, as `ImageIndex.query` describes."""
        found = search(
            self.table,
            self.head.rows_to_scan(),
            signature,
            limit=limit,
            min_score=min_score,
            is_sketch=is_sketch,
            nonempty=self.nonempty,
            threads=threads,
        )
        image_ids, scores, segments, documents = (column.tolist() for column in found)
        signatures = self._signatures_of(segments, documents, is_ahead=True).each()
        return list(map(Match, image_ids, scores, signatures))

    def copies(
        self,
        signatures: Sequence[QuerySignature],
        wanted: CopyFilter,
        counts: NDArray[np.int32],
        threads: QueryThreads,
    ) -> Copies:
        """Return the likeliest copies, as `ImageIndex.find_copies` describes."""
        searcher = _Searcher(self, threads)
        return find_copies(signatures, wanted, Population(counts, self.image_count), searcher)

    def without(self, image_ids: Collection[int]) -> Snapshot:
        """Return a snapshot that never finds some images, though they are counted as before."""
        ids = np.unique(np.fromiter(image_ids, np.int64))
        members = list(self.members)
        segments, documents = locate(self.table, ids)
        for segment_no in np.unique(segments).tolist():
            doc_ids = documents[segments == segment_no].astype(np.int64)
            members[segment_no] = members[segment_no].without(doc_ids)
        table = SegmentTable.create(self.table.segments, [member.alive for member in members])
        head = self.head.without(self.head.find(ids))
        return replace(self, members=tuple(members), table=table, head=head)

    def signatures_of(self, segments: NDArray[np.int32], documents: NDArray[np.int32]) -> Signatures:
        """Return the signatures of a few documents; segment -1 is the head."""
        return self._signatures_of(segments.tolist(), documents.tolist())

    def _signatures_of(
        self, segments: list[int], documents: list[int], *, is_ahead: bool = False
    ) -> Signatures:
        """Return the signatures of a few documents; with `is_ahead`, prefetch all of them first."""
        places: dict[int, list[int]] = {}
        for place, segment_no in enumerate(segments):
            places.setdefault(segment_no, []).append(place)
        doc_ids = {segment_no: [documents[place] for place in own] for segment_no, own in places.items()}
        if is_ahead:
            for segment_no, own_ids in doc_ids.items():
                self._rows(segment_no).prefetch_each(own_ids)
        records = [b""] * len(documents)
        for segment_no, own in places.items():
            found = self._rows(segment_no).raw(doc_ids[segment_no])
            for place, record in zip(own, found, strict=True):
                records[place] = record
        try:
            return signatures_in(records)
        except IndexStateError:
            for segment_no, own_ids in doc_ids.items():  # the error of the damaged file has its name
                self._rows(segment_no).read(np.unique(own_ids))
            raise

    def _rows(self, segment_no: int) -> SignatureRows:
        """Return the signatures of a segment; -1 is the head."""
        if segment_no < 0:
            return MemoryRows(Signatures(self.head.averages, self.head.positions))
        return self.members[segment_no].sealed.rows

    def get(self, image_id: int) -> Signature | None:
        """Return the signature of a live image, or None."""
        image_ids = np.array([image_id], dtype=np.int64)
        for row in self.head.find(image_ids).tolist():
            return self.head.signature(row)
        segments, documents = locate(self.table, image_ids)
        for segment_no, doc_id in zip(segments.tolist(), documents.tolist(), strict=True):
            return self._rows(segment_no).signature(doc_id)
        return None


class _Searcher:
    """The index as a search for copies sees it; see `evidence.copies`."""

    def __init__(self, snapshot: Snapshot, threads: QueryThreads) -> None:
        self._snapshot = snapshot
        self._head = snapshot.head.rows_to_scan()
        self._threads = threads
        self.nonempty = snapshot.nonempty

    def best(self, signature: Signature, limit: int, min_score: float | None) -> Columns:
        snapshot = self._snapshot
        return search(
            snapshot.table,
            self._head,
            signature,
            limit=limit,
            min_score=min_score,
            nonempty=self.nonempty,
            threads=self._threads,
        )

    def sharing(self, distinctive: DistinctiveBuckets, limit: int) -> list[Columns]:
        return find_sharers(self._snapshot.table, self._head, distinctive, limit=limit, threads=self._threads)

    def read(self, segments: NDArray[np.int32], documents: NDArray[np.int32]) -> Signatures:
        return self._snapshot.signatures_of(segments, documents)
