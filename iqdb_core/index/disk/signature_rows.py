"""The signatures of one sealed segment, in document order: in memory while it is small, in a file otherwise.

Answers: what are the signatures of these documents? Files are read with pread, so that they are page cache
and not resident memory of the process. Never ranks, never knows ids. Called for matches, for `get`, for the
counts behind a delete, and by merges, which rebuild segments from them.
"""

from __future__ import annotations

import itertools
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.codec import SIGNATURE_BYTES
from iqdb_core.errors import IndexStateError
from iqdb_core.index.disk.open_files import OpenFiles
from iqdb_core.index.rows import Signatures
from iqdb_core.index.segment.segment import checksum
from iqdb_core.model import CHANNELS, KEPT, PLANE, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ROW: Final = np.dtype([("averages", "<f8", (CHANNELS,)), ("positions", "<i2", (CHANNELS, KEPT))])
"""One signature in a file: what `codec.to_bytes` makes, 264 bytes without padding."""
AVERAGES_BYTES: Final = CHANNELS * 8
CHUNK_ROWS: Final = 4_096
"""Rows read or written at once: 1 MiB, which stays in cache between the copy and the use."""
_RUN_GAP: Final = 32
"""Rows that are cheaper to read along than to skip with another system call."""


class MemoryRows:
    """Rows of a segment that is so small, and merged so soon, that a file would cost more than it saves.

    Parameters
    ----------
    signatures : Signatures
        Kept, not copied; must not change.
    """

    def __init__(self, signatures: Signatures) -> None:
        self.signatures = signatures

    def __len__(self) -> int:
        return len(self.signatures.averages)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.signatures.averages.nbytes + self.signatures.positions.nbytes

    def signature(self, doc_id: int) -> Signature:
        """Return the signature of one document."""
        return self.signatures.signature(doc_id)

    def prefetch(self, first: int, last: int) -> None:
        """Do nothing: they are there."""

    def raw(self, doc_ids: list[int]) -> list[bytes]:
        """Return the rows of a few documents as a file has them."""
        rows = np.empty(len(doc_ids), dtype=ROW)
        rows["averages"], rows["positions"] = self.read(np.array(doc_ids))
        return [rows.tobytes()]

    def read(self, doc_ids: NDArray[np.int64]) -> Signatures:
        """Return copies of the rows of `doc_ids`."""
        return Signatures(self.signatures.averages[doc_ids], self.signatures.positions[doc_ids])


class FileRows:
    """Rows in a file, which is opened when it is read.

    Parameters
    ----------
    path : Path
        The file. It must stay where it is, and as it is, as long as it is read.
    n_rows : int
        How many rows it must hold.
    files : OpenFiles or None
        Keeps those open that were read last; None keeps this one.

    Raises
    ------
    OSError
        The file cannot be opened.
    IndexStateError
        Its size is not `n_rows` rows.

    Notes
    -----
    Reading raises OSError if the file cannot be read (FileNotFoundError if it was removed, as the files of
    merged segments are), and IndexStateError, which names it, if it is not the file that it was.
    """

    def __init__(self, path: Path, n_rows: int, files: OpenFiles | None = None) -> None:
        self.path = path
        self._n_rows = n_rows
        self._files = OpenFiles(1) if files is None else files
        with self._files.reading(path) as fd:
            about = os.fstat(fd)
        self._identity = _identity(about)
        if about.st_size != n_rows * SIGNATURE_BYTES:
            raise IndexStateError(
                f"{path.name} has {about.st_size} bytes instead of {n_rows * SIGNATURE_BYTES}"
            )

    def __len__(self) -> int:
        return self._n_rows

    @property
    def nbytes(self) -> int:
        """None: the file is page cache."""
        return 0

    def signature(self, doc_id: int) -> Signature:
        """Return the signature of one document: one pread of 264 bytes."""
        with self._reading() as fd:
            raw = self._pread(fd, doc_id, 1)
        y, i, q = struct.unpack_from("<3d", raw)
        return Signature((y, i, q), raw[AVERAGES_BYTES:])

    def prefetch(self, first: int, last: int) -> None:
        """Begin to read; a disk serves many such wishes at once, but reads that wait only one by one."""
        if hasattr(os, "posix_fadvise"):
            start, stop = first * SIGNATURE_BYTES, (last + 1) * SIGNATURE_BYTES
            with self._files.reading(self.path) as fd:
                os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)

    def raw(self, doc_ids: list[int]) -> list[bytes]:
        """Return the rows of a few documents, unchecked, each read by itself; for `signatures_in`."""
        with self._reading() as fd:
            return [self._pread(fd, doc_id, 1) for doc_id in doc_ids]

    def read(self, doc_ids: NDArray[np.int64]) -> Signatures:
        """Return the rows of strictly ascending `doc_ids`, reading runs of near neighbours at once."""
        averages = np.empty((len(doc_ids), CHANNELS))
        positions = np.empty((len(doc_ids), CHANNELS, KEPT), dtype=np.int16)
        with self._reading() as fd:
            for start, stop in runs(doc_ids):
                first, last = int(doc_ids[start]), int(doc_ids[stop - 1])
                rows = np.frombuffer(self._pread(fd, first, last - first + 1), dtype=ROW)
                if last - first + 1 != stop - start:
                    rows = rows[doc_ids[start:stop] - first]
                averages[start:stop] = rows["averages"]
                positions[start:stop] = rows["positions"]
        _check(positions, self.path.name)
        return Signatures(averages, positions)

    def checksum(self) -> int:
        """Read the whole file and return the checksum that `write_rows` returned for it."""
        words = bytearray(min(self._n_rows, CHUNK_ROWS) * SIGNATURE_BYTES)
        total = 0
        with self._files.reading(self.path) as fd:
            for start in range(0, self._n_rows, CHUNK_ROWS):
                size = min(CHUNK_ROWS, self._n_rows - start) * SIGNATURE_BYTES
                view = memoryview(words)[:size]
                if os.preadv(fd, [view], start * SIGNATURE_BYTES) != size:
                    raise IndexStateError(f"{self.path.name} ends early")
                total = _chained(total, np.frombuffer(view, dtype=np.uint64))
        return total

    def sync(self) -> None:
        """Make the rows durable."""
        with self._files.reading(self.path) as fd:
            os.fsync(fd)

    @contextmanager
    def _reading(self) -> Iterator[int]:
        """Yield the file, open, if it is the one that it was."""
        with self._files.reading(self.path) as fd:
            if _identity(os.fstat(fd)) != self._identity:
                raise IndexStateError(f"{self.path.name} was changed by someone else")
            yield fd

    def _pread(self, fd: int, first: int, n_rows: int) -> bytes:
        raw = os.pread(fd, n_rows * SIGNATURE_BYTES, first * SIGNATURE_BYTES)
        if len(raw) != n_rows * SIGNATURE_BYTES:
            raise IndexStateError(f"{self.path.name} ends before document {first + n_rows}")
        return raw


def signatures_in(raw: list[bytes]) -> Signatures:
    """Return the signatures in what `raw` returned of any number of segments.

    Raises
    ------
    IndexStateError
        Some file is damaged.
    """
    rows = np.frombuffer(b"".join(raw), dtype=ROW)
    averages, positions = np.ascontiguousarray(rows["averages"]), np.ascontiguousarray(rows["positions"])
    _check(positions, "a file of signatures")
    return Signatures(averages, positions)


def _check(positions: NDArray[np.int16], name: str) -> None:
    """Compiled code trusts positions to be what was indexed: with others it would write anywhere."""
    if len(positions) and (positions.min() <= -PLANE or positions.max() >= PLANE or not positions.all()):
        raise IndexStateError(f"{name} is damaged: it holds positions that are none")


def _identity(about: os.stat_result) -> tuple[int, int, int]:
    """Return what is another if a file was replaced, written to or cut."""
    return about.st_ino, about.st_size, about.st_mtime_ns


def write_rows(path: Path, signatures: Signatures) -> int:
    """Write rows as a new file, without making it durable.

    Parameters
    ----------
    path : Path
        Must not exist.
    signatures : Signatures

    Returns
    -------
    int
        The file's checksum.

    Raises
    ------
    OSError
        The file exists or the disk is full; what was written stays and is removed with the other leftovers.
    """
    averages, positions = signatures
    total = 0
    with path.open("xb", buffering=0) as file:
        for start in range(0, len(averages), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            rows = np.empty(len(averages[part]), dtype=ROW)
            rows["averages"] = averages[part]
            rows["positions"] = positions[part]
            words = rows.view(np.uint64)
            total = _chained(total, words)
            view = words.view(np.uint8).data
            while view:
                view = view[file.write(view) :]
    return total


def _chained(total: int, words: NDArray[np.uint64]) -> int:
    """Return the checksum of a file so far, given that of its next piece; the order of pieces matters."""
    return (total * 0x9E3779B97F4A7C15 + checksum(words)) % 2**64


def runs(doc_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut ascending documents into half-open runs, each read at once and within one chunk of the file."""
    if len(doc_ids) == 0:
        return []
    is_cut = (np.diff(doc_ids) > _RUN_GAP) | (np.diff(doc_ids // CHUNK_ROWS) > 0)
    edges = [0, *(np.flatnonzero(is_cut) + 1).tolist(), len(doc_ids)]
    return list(itertools.pairwise(edges))
