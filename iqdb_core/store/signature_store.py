"""What is kept for good, and in which order did it change? The store's rules, on either database.

Never caches, never knows who follows the feed. Called by the ingestion paths (apply), the follower
(changes_since) and whoever needs one signature (get).

The life of an image, as the feed tells it:

    (unknown) --put--> LIVE --put--> LIVE (new seq)
        |               |  ^
        |            delete |put
        |               v  |
        +--delete--> TOMBSTONE        a write whose revision is not newer than the stored one changes nothing

Of any of them another program may make BROKEN, a row that is no signature: to readers it is absent, and a put
or a delete ends it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from iqdb_core.errors import StoreUnavailable, UnknownImage
from iqdb_core.model import MAX_IMAGE_ID, FeedState, Signature
from iqdb_core.store import sources
from iqdb_core.store.backend import live_among
from iqdb_core.store.columns import is_signature
from iqdb_core.store.contents import export, listing
from iqdb_core.store.contents.check import CheckReport, check
from iqdb_core.store.writing import apply_and_read, apply_writes, check_writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from iqdb_core.model import ChangeBatch, Write, WriteOutcome
    from iqdb_core.store.backend import Backend, Counter
    from iqdb_core.store.contents.export import ExportedImage
    from iqdb_core.store.contents.listing import ListedImage


class SignatureStore:
    """The durable truth about every image, and the feed of its changes. Safe to use from any thread.

    Made by `open_store`. Every method raises StoreUnavailable when the database cannot be reached or is
    locked for too long (trying again can help) and StoreInvalid when it is no store (it cannot).

    Parameters
    ----------
    backend : Backend
        Open and upgraded.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._is_closed = False
        with backend.reading() as connection:
            self._store_id = backend.store_id(connection)

    @property
    def store_id(self) -> str:
        """The random name this database got when it became a store; a copy by `copy_store` has another.

        Where another database was put in its place, that one's name from the next `changes_since` on.
        """
        return self._store_id

    def apply(self, writes: Sequence[Write]) -> list[WriteOutcome]:
        """Apply writes in one transaction; they are on disk when this returns.

        Parameters
        ----------
        writes : sequence of Write
            Ids may repeat: writes to one id take effect in the order of their revisions.

        Returns
        -------
        list of WriteOutcome
            One per write, in the same order. A write whose revision is not newer than the stored one is
            stale and harmless, so a redelivered task may simply apply its writes again.

        Raises
        ------
        InvalidImageId, InvalidHash, InvalidSource
            A write that no database could hold or no index could use; nothing of the batch is applied.
        """
        self._check_open()
        check_writes(writes)
        if not writes:
            return []
        with self._backend.writing() as connection:
            return apply_writes(self._backend, connection, writes)

    def apply_and_read(self, writes: Sequence[Write]) -> tuple[list[WriteOutcome], ChangeBatch]:
        """Do as `apply`, and return what this added to the feed, too.

        Returns
        -------
        list of WriteOutcome
            As from `apply`.
        ChangeBatch
            What `changes_since` the newest seq before them would return; all of it, since no other writer
            comes between.
        """
        self._check_open()
        check_writes(writes)
        with self._backend.writing() as connection:
            return apply_and_read(self._backend, connection, writes)

    def changes_since(self, cursor: int, limit: int) -> ChangeBatch:
        """Return the next changes of the feed.

        Parameters
        ----------
        cursor : int
            The last seq already seen; 0 starts from the beginning.
        limit : int
            At most so many changes, at least 1.

        Returns
        -------
        ChangeBatch
            In the order of commits. Empty when there is nothing newer. Every change committed before the
            call and above the cursor is in this or a following batch, or was overtaken by a newer change of
            the same image that is.
        """
        self._check_open()
        with self._backend.reading() as connection:
            batch = self._backend.changes(connection, cursor, limit)
            head_seq, before, store_id = self._backend.marks(connection, cursor)
            after = before
            if len(batch):
                _, after, _ = self._backend.marks(connection, batch.last_seq)
        self._store_id = store_id
        return replace(batch, feed=FeedState(head_seq, before, after))

    def get(self, image_id: int) -> Signature:
        """Return what is stored for one image.

        Raises
        ------
        UnknownImage
            It was never stored, is deleted, or its row is no signature.
        """
        self._check_open()
        if not 0 <= image_id <= MAX_IMAGE_ID:
            raise UnknownImage(image_id)
        with self._backend.reading() as connection:
            row = self._backend.image(connection, image_id)
        if row is None or not is_signature(row):
            raise UnknownImage(image_id)
        return Signature(row[:3], row[3])

    def sources_of(self, image_ids: Sequence[int]) -> dict[int, str]:
        """Return the sources of those images that are there and have one, by id."""
        self._check_open()
        known = [image_id for image_id in image_ids if 0 <= image_id <= MAX_IMAGE_ID]
        if not known:
            return {}
        with self._backend.reading() as connection:
            return sources.read(connection, known)

    def ids_after(self, after: int, limit: int) -> list[ListedImage]:
        """Return at most `limit` live images above the id `after` (-1: from the beginning), ascending."""
        self._check_open()
        with self._backend.reading() as connection:
            return listing.after(connection, min(max(after, -1), MAX_IMAGE_ID), limit)

    def missing(self, image_ids: Sequence[int]) -> list[int]:
        """Return those of the ids that no live image has, each once, in their order."""
        self._check_open()
        possible = [image_id for image_id in image_ids if 0 <= image_id <= MAX_IMAGE_ID]
        with self._backend.reading() as connection:
            live = live_among(self._backend, connection, possible) if possible else set()
        return [image_id for image_id in dict.fromkeys(image_ids) if image_id not in live]

    def export(self, after: int = -1) -> Iterator[ExportedImage]:
        """Yield every image above an id, ascending, all of one moment; memory stays that of a page.

        A connection is kept until the iterator ends or is closed. It may be used from one thread after
        another, and a pause of over a quarter of an hour ends it on Postgres.
        """
        self._check_open()
        return export.images(self._backend, after)

    def export_iqdb_file(self, path: Path, progress: Callable[[int, int], None] | None = None) -> int:
        """Write all images of one moment into a new SQLite file that is IQDB's own and nothing else.

        Parameters
        ----------
        path : Path
            Must not exist, and does so only once it is complete.
        progress : callable of (done, total), optional
            In images.

        Returns
        -------
        int
            Images written. Rows that are no signatures are left out.

        Raises
        ------
        StoreInvalid, StoreUnavailable
            The file exists, or cannot be written; nothing is left of it.
        """
        self._check_open()
        return export.write_iqdb_file(self._backend, path, progress)

    def backup(self, path: Path, progress: Callable[[int, int], None] | None = None) -> int:
        """Write everything the store holds at one moment into a new SQLite file, while it is used.

        It is a store of the same name and history, which `open_store` and IQDB open: images, feed with
        tombstones, sources, lineage. Put in place of the store, it is the store as it was.

        Parameters
        ----------
        path : Path
            Must not exist, and does so only once it is complete.
        progress : callable of (done, total), optional
            In pages or images.

        Returns
        -------
        int
            Live images in it.

        Raises
        ------
        StoreInvalid, StoreUnavailable
            The file exists, or cannot be written; nothing is left of it.
        """
        self._check_open()
        # Needed by few: brings the other database's statements with it.
        from iqdb_core.store.contents.backup import back_up  # noqa: PLC0415

        return back_up(self._backend, path, progress)

    def check(
        self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> CheckReport:
        """Look at every row and tell what does not agree.

        Parameters
        ----------
        repair : bool
            Bring feed, counter, sources and lineage in step with the images, in the same transaction; the
            images themselves are never changed. Writers wait meanwhile.
        progress : callable of (done, total), optional
            In images.
        """
        self._check_open()
        return check(self._backend, repair=repair, progress=progress)

    def head_seq(self) -> int:
        """Return the newest seq given out; 0 for an empty store."""
        return self._counter().head_seq

    def max_revision(self) -> int:
        """Return the newest revision ever applied, the floor of a `RevisionClock`; 0 for none."""
        return self._counter().max_revision

    def live_count(self) -> int:
        """Return the exact number of live images."""
        return self._counter().live_count

    def close(self) -> None:
        """Close all connections. May be called twice; afterwards every method raises StoreUnavailable."""
        if not self._is_closed:
            self._is_closed = True
            self._backend.close()

    def _counter(self) -> Counter:
        self._check_open()
        with self._backend.reading() as connection:
            return self._backend.counter(connection)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
