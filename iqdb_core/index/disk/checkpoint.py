"""Snapshots saved to disk, so that a restart need not read the store again.

Saves a snapshot in one step, and loads it only if it is complete, undamaged and of the right store. The
manifest is renamed into place once every file that it names is durable; a process that is killed before that
leaves the previous checkpoint unchanged. Never repairs: any defect is reported by name. Called by
`CheckpointKeeper`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.errors import CheckpointInvalid, IndexStateError
from iqdb_core.index.disk import manifest as manifest_format
from iqdb_core.index.disk.manifest import Manifest, SegmentEntry
from iqdb_core.index.disk.signature_rows import FileRows
from iqdb_core.index.segment import alive as bitmap
from iqdb_core.index.segment.member import Member, SealedSegment
from iqdb_core.index.segment.segment import Segment, checksum
from iqdb_core.index.simd.memory import WORD_BYTES, allocate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from iqdb_core.index.disk.directory import IndexDirectory
    from iqdb_core.index.disk.open_files import OpenFiles
    from iqdb_core.index.disk.sealer import Sealer
    from iqdb_core.index.rows import Rows
    from iqdb_core.model import Mark

_LOADERS: Final = 4
"""Threads that read and check segments: enough to keep a disk busy while checksums are computed."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The content of a checkpoint: an index at one moment.

    Parameters
    ----------
    applied_seq : int
        The index contains every change up to this seq, and none after it.
    lineage : Mark or None
        The newest mark at or below `applied_seq` of the store; None if it is not known.
    members : tuple of Member
    head : Rows
        The live rows of the head, in the order of arrival.
    counts : (98,304,) int32 ndarray
        Live images per bucket.
    """

    applied_seq: int
    lineage: Mark | None
    members: tuple[Member, ...]
    head: Rows
    counts: NDArray[np.int32]


def save(sealer: Sealer, *, store_id: str, content: Saved) -> None:
    """Save `content` as the directory's checkpoint, durably and atomically.

    Parameters
    ----------
    sealer : Sealer
        Of the index's directory.
    store_id : str
        The store whose feed the index follows.
    content : Saved

    Raises
    ------
    OSError
        The disk is full or fails; the previous checkpoint is still in place.
    """
    directory = sealer.directory
    for member in content.members:
        _make_durable(sealer, member.sealed)
    directory.sync()
    raw = manifest_format.to_bytes(
        Manifest(
            store_id=store_id,
            applied_seq=content.applied_seq,
            lineage=content.lineage,
            segments=[_entry(member) for member in content.members],
            counts=content.counts,
            alive=[member.alive for member in content.members],
            head=content.head,
        )
    )
    _write_durably(directory.manifest, memoryview(raw))
    directory.sync()


def load(
    directory: IndexDirectory, *, store_id: str, get_ready: Callable[[], None] = lambda: None
) -> Saved | None:
    """Read the directory's checkpoint and check all of it.

    Parameters
    ----------
    directory : IndexDirectory
    store_id : str
        The store that the checkpoint must belong to.
    get_ready : callable
        Called when the words of all segments are in memory, before they are checked; must return once the
        compiled forms are ready.

    Returns
    -------
    Saved or None
        None if there is no checkpoint. The members' words have been read into memory of this process.

    Raises
    ------
    CheckpointInvalid
        A file is missing, damaged, of another version, or belongs to another store.
    OSError
        It cannot be read now: too many open files, no permission, a disk error, no memory. The checkpoint
        itself may be good.
    """
    path = str(directory.manifest)
    try:
        raw = directory.manifest.read_bytes()
        manifest = manifest_format.from_bytes(raw, path)
        if manifest.store_id != store_id:
            raise CheckpointInvalid(path, f"it belongs to the store {manifest.store_id}, not to {store_id}")
        with ThreadPoolExecutor(_LOADERS, thread_name_prefix="checkpoint-loader") as loaders:
            words = list(loaders.map(partial(_read_words, directory), manifest.segments))
            get_ready()
            members = tuple(
                loaders.map(partial(_checked, directory), manifest.segments, words, manifest.alive)
            )
    except FileNotFoundError as error:
        if str(error.filename) == path:
            return None
        raise CheckpointInvalid(str(error.filename), "it is missing") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise CheckpointInvalid(str(error.filename), "it is not a file") from error
    return Saved(manifest.applied_seq, manifest.lineage, members, manifest.head, manifest.counts)


def _make_durable(sealer: Sealer, sealed: SealedSegment) -> None:
    """Write and sync those files of a segment that are not durable yet."""
    sealer.write_rows(sealed)
    if not sealed.is_rows_durable and isinstance(sealed.rows, FileRows):
        sealed.rows.sync()
        sealed.is_rows_durable = True
    if sealed.words_checksum is None:
        words = sealed.segment.words
        _write_durably(sealer.directory.words(sealed.number), words.view(np.uint8).data)
        sealed.words_checksum = checksum(words)


def _write_durably(path: Path, content: memoryview) -> None:
    """Write a file, and rename it into place once it is on disk; the caller has to sync the directory."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb", buffering=0) as file:
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _entry(member: Member) -> SegmentEntry:
    sealed = member.sealed
    if sealed.words_checksum is None or sealed.rows_checksum is None:
        raise AssertionError(f"segment {sealed.number} was not made durable")
    return SegmentEntry(
        number=sealed.number,
        n_images=member.n_images,
        n_alive=member.n_alive,
        n_alive_words=len(member.alive),
        n_words=len(sealed.segment.words),
        words_checksum=sealed.words_checksum,
        rows_checksum=sealed.rows_checksum,
    )


def _checked(
    directory: IndexDirectory, entry: SegmentEntry, words: NDArray[np.uint64], alive: NDArray[np.uint64]
) -> Member:
    """Check one segment, for which all of its rows are read, and return it."""
    alive = alive.copy()
    segment = _checked_segment(directory.words(entry.number), entry, words)
    rows = _checked_rows(directory.rows(entry.number), entry, directory.files)
    path = str(directory.manifest)
    if len(alive) != segment.n_words or bitmap.count(alive, segment.n_images) != entry.n_alive:
        raise CheckpointInvalid(path, f"the live images of segment {entry.number} are not {entry.n_alive}")
    sealed = SealedSegment(
        entry.number,
        segment,
        rows,
        rows_checksum=entry.rows_checksum,
        words_checksum=entry.words_checksum,
        is_rows_durable=True,
    )
    return Member(sealed, alive, entry.n_alive)


def _read_words(directory: IndexDirectory, entry: SegmentEntry) -> NDArray[np.uint64]:
    """Read one segment, unchecked."""
    path = directory.words(entry.number)
    words = allocate(entry.n_words)
    n_bytes = entry.n_words * WORD_BYTES
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != n_bytes:
            raise CheckpointInvalid(str(path), f"it has {size} bytes instead of {n_bytes}")
        content = words.view(np.uint8).data
        while content:
            n_read = file.readinto(content)
            if not n_read:
                raise CheckpointInvalid(str(path), "it ends early")
            content = content[n_read:]
    words.flags.writeable = False
    return words


def _checked_segment(path: Path, entry: SegmentEntry, words: NDArray[np.uint64]) -> Segment:
    if checksum(words) != entry.words_checksum:
        raise CheckpointInvalid(str(path), "it is damaged (wrong checksum)")
    try:
        segment = Segment.from_words(words)
    except IndexStateError as error:
        raise CheckpointInvalid(str(path), str(error)) from error
    if segment.n_images != entry.n_images:
        raise CheckpointInvalid(str(path), f"it has {segment.n_images} images instead of {entry.n_images}")
    if not (np.diff(segment.image_ids) > 0).all():
        raise CheckpointInvalid(str(path), "its image ids do not ascend")
    return segment


def _checked_rows(path: Path, entry: SegmentEntry, files: OpenFiles) -> FileRows:
    try:
        rows = FileRows(path, entry.n_images, files)
    except IndexStateError as error:
        raise CheckpointInvalid(str(path), str(error)) from error
    if rows.checksum() != entry.rows_checksum:
        raise CheckpointInvalid(str(path), "it is damaged (wrong checksum)")
    return rows
