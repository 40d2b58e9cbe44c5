"""The index in memory: signatures in, ranked matches out.

Follows the feed through `apply` and never reads a database; its content is a copy that can be rebuilt at any
time. Called by the follower (`apply`, one thread at a time) and by any number of query threads, which never
wait for a write.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from iqdb_core.errors import IndexStateError
from iqdb_core.index.bucket_counts import BucketCounts
from iqdb_core.index.disk.directory import IndexDirectory
from iqdb_core.index.disk.sealer import Sealer
from iqdb_core.index.evidence.copies import CopyFilter
from iqdb_core.index.head import Head
from iqdb_core.index.options import IndexOptions
from iqdb_core.index.query_threads import QueryThreads
from iqdb_core.index.simd.memory import release_free_memory
from iqdb_core.index.snapshot import Snapshot
from iqdb_core.index.stats import IndexStats
from iqdb_core.index.update import updated, with_added
from iqdb_core.index.upkeep.checkpoint_keeper import CheckpointKeeper, numbers_of
from iqdb_core.index.upkeep.compaction import choose, is_overdue
from iqdb_core.index.upkeep.maintenance import Maintenance
from iqdb_core.index.upkeep.merge import carried_over, merged
from iqdb_core.model import QuerySignature

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from iqdb_core.index.segment.member import Member
    from iqdb_core.model import ChangeBatch, Copies, Mark, Match, Signature


T = TypeVar("T")
BULK_CHANGES: Final = 16_384
"""A batch of at least this many changes leaves megabytes of freed memory, which maintenance returns to the
system."""


class ImageIndex:
    """An index over one directory. Made by `open`, ended by `close`.

    Notes
    -----
    `_snapshot` is one reference, replaced whole under `_write_lock`; readers take it without a lock. Merges,
    checkpoints and `reset` exclude each other by `_maintenance_lock`, which is always taken before
    `_write_lock`.
    """

    def __init__(self, directory: IndexDirectory, *, store_id: str, options: IndexOptions) -> None:
        self._directory = directory
        self._options = options
        self._sealer = Sealer(directory)
        self._checkpoints = CheckpointKeeper(self._sealer, store_id=store_id, options=options)
        self._write_lock = threading.Lock()
        self._maintenance_lock = threading.Lock()
        self._maintenance = Maintenance(self._work)
        self._is_closed = False
        self._threads = QueryThreads(options.concurrent_queries, options.query_threads - 1)
        self._counts = BucketCounts()
        self._snapshot = self._empty()
        self._is_untrimmed = False

    @classmethod
    def open(
        cls,
        directory: Path | None,
        *,
        store_id: str,
        options: IndexOptions | None = None,
        get_ready: Callable[[], None] = lambda: None,
    ) -> ImageIndex:
        """Open the index of a directory, from its checkpoint if there is a valid one, else empty.

        Parameters
        ----------
        directory : Path or None
            Created if absent, and locked. None uses a temporary directory that `close` removes.
        store_id : str
            The store whose feed is applied; a checkpoint of another store is refused.
        options : IndexOptions or None
            None means the defaults.
        get_ready : callable
            Called once a checkpoint's words are read, before they are checked. It must return when the
            compiled arithmetic is ready, without which the check takes far longer.

        Returns
        -------
        ImageIndex
            Its `applied_seq` says where to continue in the feed; 0 if it starts empty, because there is no
            checkpoint or it was refused (see `stats`). If that is beyond the store's own head, call `reset`.

        Raises
        ------
        IndexStateError
            The directory is in use by another index.
        OSError
            It cannot be created or written.
        """
        place = IndexDirectory(directory)
        try:
            index = cls(place, store_id=store_id, options=options or IndexOptions())
            index._load(get_ready)
        except BaseException:
            place.close()
            raise
        return index

    def follow_store_id(self, store_id: Callable[[], str]) -> None:
        """Call this for the store's id at each checkpoint: another database may take its place."""
        self._checkpoints.store_id = store_id

    @property
    def applied_seq(self) -> int:
        """Every change up to this seq is findable."""
        return self._snapshot.applied_seq

    @property
    def lineage(self) -> Mark | None:
        """The newest mark at or below `applied_seq` of the store that is followed; None if not known."""
        return self._snapshot.lineage

    @property
    def held(self) -> tuple[int, Mark | None] | None:
        """The newest seq that was held before `open`, with the lineage there; None if not known.

        After a crash, `applied_seq` is that of the checkpoint, and may be below it.
        """
        return self._checkpoints.held

    @property
    def image_count(self) -> int:
        """Live images, exactly."""
        return self._snapshot.image_count

    @property
    def has_free_turn(self) -> bool:
        """Whether a query could start now without waiting for others."""
        return self._threads.has_free_turn

    def apply(self, batch: ChangeBatch) -> None:
        """Apply a batch whole, then publish it as one new snapshot.

        Parameters
        ----------
        batch : ChangeBatch
            The next changes of the feed. Changes up to `applied_seq` are skipped, so applying twice is
            harmless; an empty batch does nothing.

        Raises
        ------
        IndexStateError
            The index is closed, or a file of its directory was damaged.
        OSError
            The directory cannot be written. The index is as it was before, and the same batch may be applied
            again.
        """
        with self._write_lock:
            self._require_open()
            before = self._snapshot
            update = updated(before, batch, self._sealer)
            if update is None:
                return
            try:
                self._counts.change(update.added.signatures, update.removed, update.added_counts)
            except BaseException:
                self._directory.remove(numbers_of(update.members) - numbers_of(before.members))
                raise
            self._publish(update.members, update.head, update.applied_seq, update.lineage)
            self._checkpoints.note(self._snapshot)
            self._is_untrimmed |= len(batch) >= BULK_CHANGES
        if update.members is not before.members:
            self._after_segments_changed()

    def query(
        self,
        signature: Signature,
        limit: int = 10,
        min_score: float | None = None,
        *,
        is_sketch: bool = False,
    ) -> list[Match]:
        """Return the live images most like a signature.

        Parameters
        ----------
        signature : Signature
        limit : int
            Most matches to return, at least 1.
        min_score : float or None
            Matches below this score are left out; None leaves out none. A higher one makes the query cheaper.
        is_sketch : bool
            Whether the signature is of a painted picture: then colours and large shapes count less.

        Returns
        -------
        list of Match
            Best first, equal scores by ascending id; of the snapshot that was current when the call began.

        Raises
        ------
        ValueError
            `limit` is below 1.
        IndexStateError
            The index is closed, or a file of its directory was damaged.
        OSError
            Signatures cannot be read: the disk fails, or the process has too many files open.
        """
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        return self._answered(
            lambda snapshot: snapshot.best_matches(
                signature, limit, min_score, self._threads, is_sketch=is_sketch
            )
        )

    def find_copies(
        self,
        signatures: Sequence[QuerySignature],
        *,
        limit: int,
        offset: int = 0,
        min_score: float | None = None,
        min_likelihood: float | None = None,
        min_detail: float | None = None,
        exclude: Collection[int] = (),
    ) -> Copies:
        """Return the live images that most likely show a picture, or what a part or turn of it shows.

        Parameters
        ----------
        signatures : sequence of QuerySignature
            The signature of the whole picture first, then those of its parts and turns; at least one.
        limit : int
            Most matches to return, at least 1.
        offset : int
            How many of the best to skip, at least 0.
        min_score, min_likelihood, min_detail : float or None
            Matches below these are left out; likelihood 0..1, detail in bits.
        exclude : collection of int
            Ids that are left out.

        Returns
        -------
        Copies
            From the snapshot that was current when the call began. Candidates are the whole picture's best
            matches by score and, for each signature, the images that share most of its rare buckets. Pages of
            one `limit` are parts of one list. See docs/recall.md.

        Raises
        ------
        ValueError
            `limit` or `offset` is out of range, or there is no signature.
        IndexStateError
            The index is closed, or a file of its directory was damaged.
        OSError
            Signatures cannot be read: the disk fails, or the process has too many files open.
        """
        if limit < 1 or offset < 0 or not signatures:
            raise ValueError("give at least one signature, a limit of at least 1 and an offset of at least 0")
        wanted = CopyFilter(limit, offset, min_score, min_likelihood, min_detail)

        def ask(snapshot: Snapshot) -> Copies:
            searched = snapshot.without(exclude) if exclude else snapshot
            return searched.copies(signatures, wanted, self._counts.counts, self._threads)

        return self._answered(ask)

    def get(self, image_id: int) -> Signature | None:
        """Return the signature of a live image, or None if no image has this id.

        Raises
        ------
        IndexStateError, OSError
            As from `query`.
        """
        return self._answered(lambda snapshot: snapshot.get(image_id))

    def stats(self) -> IndexStats:
        """Return counts, memory and the state of maintenance."""
        snapshot = self._snapshot
        return IndexStats(
            images=snapshot.image_count,
            applied_seq=snapshot.applied_seq,
            segments=len(snapshot.members),
            head_rows=snapshot.head.n_rows,
            dead_images=snapshot.dead_images,
            resident_bytes=snapshot.resident_bytes + self._counts.counts.nbytes,
            checkpoint_seq=self._checkpoints.seq,
            checkpoint_age_s=self._checkpoints.age_s(),
            checkpoint_refused=self._checkpoints.refused,
            maintenance=self._maintenance.state,
            maintenance_error=self._maintenance.last_error,
        )

    def start_maintenance(self) -> None:
        """Start a thread that merges, compacts and saves until `close`."""
        self._require_open()
        self._maintenance.start()

    def maintain(self) -> None:
        """Merge and compact until nothing is left to do; updates and queries go on meanwhile.

        Raises
        ------
        OSError, IndexStateError
            Signatures could not be read or written; the index is as it was.
        """
        while self._merge_once() and not self._maintenance.is_stopping:
            pass
        if self._is_untrimmed:
            self._is_untrimmed = False
            release_free_memory()

    def save_checkpoint(self) -> None:
        """Save the current snapshot durably unless the checkpoint is of the same state. Never delays queries.

        Raises
        ------
        OSError
            The disk is full or fails; the previous checkpoint is still in place.
        IndexStateError
            The index is closed.
        """
        with self._maintenance_lock:
            with self._write_lock:
                self._require_open()
                snapshot, counts = self._snapshot, self._counts.counts.copy()
            outdated = self._checkpoints.save(snapshot, counts)
            self._checkpoints.remove_unused(outdated, self._snapshot)

    def reset(self) -> None:
        """Forget everything, the checkpoint included: for a store that was restored to an older state."""
        with self._maintenance_lock, self._write_lock:
            self._require_open()
            self._checkpoints.forget(self._snapshot)
            self._counts = BucketCounts()
            self._snapshot = self._empty()

    def close(self) -> None:
        """End maintenance after its current work, and release memory and directory. Saves nothing.

        Queries under way finish, but with a temporary directory they may raise IndexStateError: its files
        are removed at once. Later calls raise IndexStateError; closing twice is harmless.
        """
        self._maintenance.stop()
        self._threads.close()
        with self._maintenance_lock, self._write_lock:
            self._is_closed = True
            self._snapshot = self._empty()
            self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answered(self, ask: Callable[[Snapshot], T]) -> T:
        """Return the answer of the current snapshot, or of its successor if files of it were removed."""
        while True:
            snapshot = self._snapshot
            self._require_open()
            try:
                return ask(snapshot)
            except FileNotFoundError as error:
                if snapshot.members is self._snapshot.members:
                    raise IndexStateError(
                        f"{Path(error.filename).name} was removed by another program"
                    ) from error

    def _after_segments_changed(self) -> None:
        """Wake maintenance; while it is too far behind, merge in this thread."""
        self._maintenance.wake()
        try:
            while is_overdue(self._snapshot.members, self._options) and self._merge_once():
                pass
        except OSError as error:
            # The batch is applied; the maintenance thread will retry.
            self._maintenance.report(error, "a merge failed", "index_merge_failed")

    def _work(self) -> bool:
        """Do what is due, in the maintenance thread; return whether there was anything to do."""
        before = self._snapshot.members
        self.maintain()
        is_saved = False
        if not self._directory.is_temporary and not self._maintenance.is_stopping:
            is_saved = self._checkpoints.is_due(self._snapshot)
            if is_saved:
                self.save_checkpoint()
        return is_saved or self._snapshot.members is not before

    def _merge_once(self) -> bool:
        """Do the most urgent merge, if any; return whether there may be more."""
        with self._maintenance_lock:
            if self._is_closed:
                return False
            sources = choose(self._snapshot.members, self._options)
            if not sources:
                return False
            made = merged(sources, self._sealer)
            numbers = numbers_of(sources)
            with self._write_lock:
                now = self._snapshot
                by_number = {member.sealed.number: member for member in now.members}
                sources_now = [by_number[source.sealed.number] for source in sources]
                kept = tuple(member for member in now.members if member.sealed.number not in numbers)
                made = carried_over(made, sources, sources_now)
                self._publish(kept + tuple(made), now.head, now.applied_seq, now.lineage)
            self._checkpoints.remove_unused(numbers, self._snapshot)
        release_free_memory()
        return True

    def _load(self, get_ready: Callable[[], None]) -> None:
        loaded = self._checkpoints.load(get_ready)
        if loaded is not None:
            self._counts = BucketCounts(loaded.counts)
            placed = with_added(self._snapshot.head, loaded.head.in_order(), self._sealer)
            self._publish((*loaded.members, *placed.members), placed.head, loaded.applied_seq, loaded.lineage)

    def _publish(
        self, members: tuple[Member, ...], head: Head, applied_seq: int, lineage: Mark | None
    ) -> None:
        nonempty = self._counts.nonempty
        if members is self._snapshot.members:
            self._snapshot = self._snapshot.with_head(head, nonempty, applied_seq, lineage)
        else:
            self._snapshot = Snapshot.create(members, head, nonempty, applied_seq, lineage)

    def _require_open(self) -> None:
        if self._is_closed:
            raise IndexStateError("the index is closed")

    def _empty(self) -> Snapshot:
        return Snapshot.create((), Head.create(self._options.head_capacity), BucketCounts().nonempty, 0)
