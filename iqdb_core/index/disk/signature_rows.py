"""The signatures of one sealed segment, in document order: in memory while it is small, in a file otherwise.

Files are read with pread, so that they are page cache and not resident memory of the process. Never ranks,
knows no ids. Called for matches, for `get`, for the counts after a delete, and by merges, which rebuild
segments from signatures.

    a slot of 120 bytes per document: link uint32 | the first 116 bytes of its record
    the rests of longer records, one after the other; zero bytes up to a whole word

All little-endian; `row_code.layout` describes a record. A link says how many bytes of its record are not in
the slot (lower 8 bits), and where they begin among the rests (upper 24). So any document takes one read of
120 bytes, and one in three documents a second one of about 16. The manifest has the checksum of the file.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.errors import IndexStateError
from iqdb_core.index.row_code.arithmetic import decode, encode
from iqdb_core.index.row_code.layout import PLAIN_BYTES, RECORD_WORDS, Records
from iqdb_core.index.rows import Signatures
from iqdb_core.index.segment.segment import checksum
from iqdb_core.index.simd.memory import WORD_BYTES
from iqdb_core.model import CHANNELS, KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

    from iqdb_core.index.disk.open_files import OpenFiles
    from iqdb_core.model import Signature

SLOT_BYTES: Final = 120
_LINK_BYTES: Final = 4
_SLOT_RECORD: Final = SLOT_BYTES - _LINK_BYTES
"""Bytes of a record that its slot holds."""
_MOST_REST: Final = PLAIN_BYTES - _SLOT_RECORD
_REST_BITS: Final = 8
_REST_MASK: Final = (1 << _REST_BITS) - 1
CHUNK_ROWS: Final = 4_096
"""Rows read or written at once: half a MiB, which stays in cache between the copy and the use."""
_CHUNK_BYTES: Final = CHUNK_ROWS * SLOT_BYTES
_RUN_GAP: Final = 32
"""Gaps up to this many rows are read too: cheaper than another system call."""
_RUN_GAP_BYTES: Final = _RUN_GAP * SLOT_BYTES


class MemoryRows:
    """Rows in memory, for a small segment that is merged soon, so that a file would cost more than it saves.

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
        """Do nothing: they are in memory."""

    def prefetch_each(self, doc_ids: list[int]) -> None:
        """Do nothing: they are in memory."""

    def raw(self, doc_ids: list[int]) -> list[bytes]:
        """Return the records of a few documents, plain."""
        averages, positions = self.signatures
        return [averages[doc_id].tobytes() + positions[doc_id].tobytes() for doc_id in doc_ids]

    def read(self, doc_ids: NDArray[np.int64]) -> Signatures:
        """Return copies of the rows of `doc_ids`."""
        return Signatures(self.signatures.averages[doc_ids], self.signatures.positions[doc_ids])


class FileRows:
    """Rows in a file, which is opened for reading when needed.

    Parameters
    ----------
    path : Path
        The file. It must neither move nor change while it is in use.
    n_rows : int
        How many rows it must hold.
    files : OpenFiles
        Keeps the files open that were read last.

    Raises
    ------
    OSError
        The file cannot be opened.
    IndexStateError
        The size of the file does not fit `n_rows` rows.

    Notes
    -----
    Reading raises OSError if the file cannot be read (FileNotFoundError if it was removed, like the files of
    merged segments), and IndexStateError with its name if the file has been replaced or changed.
    """

    def __init__(self, path: Path, n_rows: int, files: OpenFiles) -> None:
        self.path = path
        self._n_rows = n_rows
        self._rests_at = n_rows * SLOT_BYTES
        self._files = files
        with self._files.reading(path) as fd:
            about = os.fstat(fd)
        self._identity = _identity(about)
        n_words, is_cut = divmod(about.st_size - self._rests_at, WORD_BYTES)
        if is_cut or not 0 <= n_words * WORD_BYTES < n_rows * _MOST_REST + WORD_BYTES:
            raise IndexStateError(
                f"{path.name} has {about.st_size} bytes, which cannot be {n_rows} signatures"
            )

    def __len__(self) -> int:
        return self._n_rows

    @property
    def nbytes(self) -> int:
        """0: the file is in the page cache, not in memory of the process."""
        return 0

    def signature(self, doc_id: int) -> Signature:
        """Return the signature of one document."""
        return _decoded(_padded(self.raw([doc_id])), self.path.name).signature(0)

    def prefetch(self, first: int, last: int) -> None:
        """Begin to read in the background: a disk serves many such reads at once, unlike blocking ones."""
        if hasattr(os, "posix_fadvise"):
            start, stop = first * SLOT_BYTES, (last + 1) * SLOT_BYTES
            with self._files.reading(self.path) as fd:
                os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)

    def prefetch_each(self, doc_ids: list[int]) -> None:
        """Begin to read a few documents, each by itself."""
        if hasattr(os, "posix_fadvise"):
            with self._files.reading(self.path) as fd:
                for doc_id in doc_ids:
                    os.posix_fadvise(fd, doc_id * SLOT_BYTES, SLOT_BYTES, os.POSIX_FADV_WILLNEED)

    def raw(self, doc_ids: list[int]) -> list[bytes]:
        """Return the unchecked records of a few documents, each read by itself; for `signatures_in`."""
        records = []
        with self._files.reading(self.path) as fd:
            self._require_same(fd)
            for doc_id in doc_ids:
                slot = self._pread(fd, doc_id * SLOT_BYTES, SLOT_BYTES)
                if length := slot[0]:
                    start = int.from_bytes(slot[1:_LINK_BYTES], "little")
                    slot += self._pread(fd, self._rests_at + start, length)
                records.append(slot[_LINK_BYTES:])
        return records

    def read(self, doc_ids: NDArray[np.int64]) -> Signatures:
        """Return the rows of strictly ascending `doc_ids`, reading runs of near neighbours at once."""
        averages = np.empty((len(doc_ids), CHANNELS))
        positions = np.empty((len(doc_ids), CHANNELS, KEPT), dtype=np.int16)
        with self._files.reading(self.path) as fd:
            self._require_same(fd)
            for start in range(0, len(doc_ids), CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                records = self._read_records(fd, self._read_slots(fd, doc_ids[part]))
                averages[part], positions[part] = _decoded(records, self.path.name)
        return Signatures(averages, positions)

    def checksum(self) -> int:
        """Read the whole file and return the checksum that `write_rows` returned for it."""
        words = bytearray(_CHUNK_BYTES)
        total = 0
        with self._files.reading(self.path) as fd:
            for start, stop in _pieces(self._n_rows, self._identity[1]):
                view = memoryview(words)[: stop - start]
                if os.preadv(fd, [view], start) != stop - start:
                    raise IndexStateError(f"{self.path.name} ends early")
                total = _chained(total, np.frombuffer(view, dtype=np.uint64))
        return total

    def sync(self) -> None:
        """Make the rows durable."""
        with self._files.reading(self.path) as fd:
            os.fsync(fd)

    def _require_same(self, fd: int) -> None:
        """Raise IndexStateError if the open file has been replaced or changed."""
        if _identity(os.fstat(fd)) != self._identity:
            raise IndexStateError(f"{self.path.name} was changed by another program")

    def _pread(self, fd: int, start: int, size: int) -> bytes:
        raw = os.pread(fd, size, start) if size >= 0 else b""
        if len(raw) != size:
            raise IndexStateError(f"{self.path.name} is damaged: bytes {start} to {start + size} are missing")
        return raw

    def _read_slots(self, fd: int, doc_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the slots of ascending documents."""
        slots = np.empty((len(doc_ids), SLOT_BYTES), dtype=np.uint8)
        for start, stop in runs(doc_ids):
            first, last = int(doc_ids[start]), int(doc_ids[stop - 1])
            raw = self._pread(fd, first * SLOT_BYTES, (last - first + 1) * SLOT_BYTES)
            run = np.frombuffer(raw, dtype=np.uint8).reshape(-1, SLOT_BYTES)
            slots[start:stop] = run if len(run) == stop - start else run[doc_ids[start:stop] - first]
        return slots

    def _read_records(self, fd: int, slots: NDArray[np.uint8]) -> Records:
        """Return the records that begin in the slots of ascending documents."""
        words = np.zeros((len(slots), RECORD_WORDS), dtype=np.uint64)
        raw = words.view(np.uint8)
        raw[:, :_SLOT_RECORD] = slots[:, _LINK_BYTES:]
        links = slots[:, :_LINK_BYTES].copy().view("<u4")[:, 0].astype(np.int64)
        lengths = links & _REST_MASK
        longer = np.flatnonzero(lengths)
        if len(longer):
            rests = self._read_rests(fd, links[longer] >> _REST_BITS, lengths[longer])
            is_rest = np.arange(_MOST_REST) < lengths[longer, None]
            if len(rests) != np.count_nonzero(is_rest):
                raise IndexStateError(f"{self.path.name} is damaged: it has invalid records")
            padded = np.zeros(is_rest.shape, dtype=np.uint8)
            padded[is_rest] = np.frombuffer(rests, dtype=np.uint8)
            raw[longer, _SLOT_RECORD:PLAIN_BYTES] = padded
        return Records(words, _SLOT_RECORD + lengths)

    def _read_rests(self, fd: int, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
        """Return rests of ascending documents end to end, reading near neighbours at once."""
        stops = starts + lengths
        cuts = np.flatnonzero(starts[1:] - stops[:-1] > _RUN_GAP_BYTES) + 1
        parts = []
        for first, last in itertools.pairwise([0, *cuts.tolist(), len(starts)]):
            begin = int(starts[first])
            raw = self._pread(fd, self._rests_at + begin, int(stops[last - 1]) - begin)
            if len(raw) == lengths[first:last].sum():
                parts.append(raw)
            else:
                bounds = zip((starts[first:last] - begin).tolist(), lengths[first:last].tolist(), strict=True)
                parts += [raw[start : start + length] for start, length in bounds]
        return b"".join(parts)


def signatures_in(raw: list[bytes]) -> Signatures:
    """Return the signatures of records that `raw` returned, from any number of segments.

    Raises
    ------
    IndexStateError
        A record is invalid: the file that it came from is damaged.
    """
    return _decoded(_padded(raw), "a file of signatures")


def _padded(raw: list[bytes]) -> Records:
    """Return records as `Records`; `decode` will find one that is too long to be invalid."""
    padded = b"".join([record[:PLAIN_BYTES].ljust(RECORD_WORDS * WORD_BYTES, b"\0") for record in raw])
    words = np.frombuffer(padded, dtype=np.uint64).reshape(-1, RECORD_WORDS)
    return Records(words, np.array([len(record) for record in raw], dtype=np.int64))


def _decoded(records: Records, name: str) -> Signatures:
    """Return signatures, checked: with invalid positions compiled code would write out of bounds."""
    n_rows = len(records.sizes)
    positions = np.empty((n_rows, CHANNELS, KEPT), dtype=np.int16)
    if decode(records, positions) >= 0:
        raise IndexStateError(f"{name} is damaged: it has invalid records")
    averages = np.ascontiguousarray(records.words[:, :CHANNELS]).view(np.float64)
    return Signatures(averages, positions)


def _identity(about: os.stat_result) -> tuple[int, int, int]:
    """Return a value that changes if a file is replaced, written to or truncated."""
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
        The file exists or the disk is full; a partial file stays, and is removed with other leftovers.
    """
    averages, positions = signatures
    total = n_rests = 0
    rests = []
    with path.open("xb", buffering=0) as file:
        for start in range(0, len(averages), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            slots, rest = _laid_out(encode(Signatures(averages[part], positions[part])), n_rests)
            total = _append(file, total, slots.view(np.uint64))
            rests.append(rest)
            n_rests += len(rest)
        rests.append(np.zeros(-n_rests % WORD_BYTES, dtype=np.uint8))
        words = np.concatenate(rests).view(np.uint64)
        for start in range(0, len(words), _CHUNK_BYTES // WORD_BYTES):
            total = _append(file, total, words[start : start + _CHUNK_BYTES // WORD_BYTES])
    return total


def _laid_out(records: Records, n_rests: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the slots of records, and their rests; the file has `n_rests` bytes of rests before these."""
    raw = records.words.view(np.uint8)
    lengths = np.maximum(records.sizes - _SLOT_RECORD, 0)
    links = (n_rests + np.cumsum(lengths) - lengths) << _REST_BITS | lengths
    slots = np.empty((len(raw), SLOT_BYTES), dtype=np.uint8)
    slots[:, :_LINK_BYTES] = links.astype("<u4")[:, None].view(np.uint8)
    slots[:, _LINK_BYTES:] = raw[:, :_SLOT_RECORD]
    longer = np.flatnonzero(lengths)
    rests = raw[longer, _SLOT_RECORD:PLAIN_BYTES][np.arange(_MOST_REST) < lengths[longer, None]]
    return slots, rests


def _append(file: FileIO, total: int, words: NDArray[np.uint64]) -> int:
    """Write the next piece of a file; return the checksum so far."""
    view = words.reshape(-1).view(np.uint8).data
    while view:
        view = view[file.write(view) :]
    return _chained(total, words.reshape(-1))


def _chained(total: int, words: NDArray[np.uint64]) -> int:
    """Return the checksum of a file so far, given that of its next piece; the order of pieces matters."""
    return (total * 0x9E3779B97F4A7C15 + checksum(words)) % 2**64


def _pieces(n_rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the pieces in which a file was written."""
    for begin, end in ((0, n_rows * SLOT_BYTES), (n_rows * SLOT_BYTES, size)):
        for start in range(begin, end, _CHUNK_BYTES):
            yield start, min(start + _CHUNK_BYTES, end)


def runs(doc_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Split ascending documents into half-open runs of places, each for one read in a chunk of the file."""
    if len(doc_ids) == 0:
        return []
    is_cut = (np.diff(doc_ids) > _RUN_GAP) | (np.diff(doc_ids // CHUNK_ROWS) > 0)
    edges = [0, *(np.flatnonzero(is_cut) + 1).tolist(), len(doc_ids)]
    return list(itertools.pairwise(edges))
