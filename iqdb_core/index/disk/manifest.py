r"""The manifest of a checkpoint as bytes: everything of a snapshot except the segments' own files.

It names the files, their checksums and live images, and contains the head. Touches no file. Called by
`checkpoint`.

    magic "IQDBIDX\n" | version uint32 | header length uint32 | header: JSON, padded with spaces to 8 bytes
    bucket counts int32[98304] | alive bitmaps uint64[...] of all segments
    head: ids int64[n] | averages float64[n][3] | positions int16[n][3][40]
    checksum uint64 of everything before it

All little-endian. Any change of this layout, of a segment's words or of its file of signatures needs a new
version. Only the current version is read; otherwise the index is built from the store again.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.errors import CheckpointInvalid
from iqdb_core.index.rows import Rows
from iqdb_core.index.segment.segment import checksum
from iqdb_core.model import BUCKETS, CHANNELS, KEPT, Mark

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

MAGIC: Final = b"IQDBIDX\n"
VERSION: Final = 3
_PREFIX: Final = struct.Struct("<8sII")
_CHECKSUM: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """The manifest's entry of one segment.

    Parameters
    ----------
    number : int
        Names its two files.
    n_images, n_alive : int
        Documents, and live ones.
    n_alive_words, n_words : int
        uint64 words of its alive bitmap and of its searchable form.
    words_checksum, rows_checksum : int
        Of its two files.
    """

    number: int
    n_images: int
    n_alive: int
    n_alive_words: int
    n_words: int
    words_checksum: int
    rows_checksum: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint without its segment files.

    Parameters
    ----------
    store_id : str
        The store whose feed was applied.
    applied_seq : int
        Every change up to here is in the checkpoint.
    lineage : Mark or None
        The newest mark of the store at or below `applied_seq`; None if it is not known.
    segments : list of SegmentEntry
    counts : (98,304,) int32 ndarray
        Live images per bucket.
    alive : list of (n_alive_words,) uint64 ndarray
        One per segment.
    head : Rows
        The live rows of the head.
    """

    store_id: str
    applied_seq: int
    lineage: Mark | None
    segments: list[SegmentEntry]
    counts: NDArray[np.int32]
    alive: list[NDArray[np.uint64]]
    head: Rows


def to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest's bytes."""
    header = json.dumps(
        {
            "store_id": manifest.store_id,
            "applied_seq": manifest.applied_seq,
            "lineage": None if manifest.lineage is None else asdict(manifest.lineage),
            "head_rows": len(manifest.head),
            "segments": [asdict(entry) for entry in manifest.segments],
        }
    ).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    parts = [_PREFIX.pack(MAGIC, VERSION, len(header)), header, manifest.counts.astype("<i4").tobytes()]
    parts += [words.astype("<u8").tobytes() for words in manifest.alive]
    parts.append(manifest.head.image_ids.astype("<i8").tobytes())
    parts.append(manifest.head.averages.astype("<f8").tobytes())
    parts.append(manifest.head.positions.astype("<i2").tobytes())
    body = b"".join(parts)
    return body + _CHECKSUM.pack(_checksum(body))


def from_bytes(raw: bytes, path: str) -> Manifest:
    """Parse what `to_bytes` made.

    Parameters
    ----------
    raw : bytes
    path : str
        The path to name in errors.

    Returns
    -------
    Manifest
        Its arrays are read-only.

    Raises
    ------
    CheckpointInvalid
        Magic, version, length or checksum are wrong, or the content contradicts the header.
    """
    if len(raw) < _PREFIX.size + _CHECKSUM.size:
        raise CheckpointInvalid(path, f"it is cut short at {len(raw)} bytes")
    magic, version, header_length = _PREFIX.unpack_from(raw)
    if magic != MAGIC:
        raise CheckpointInvalid(path, "it is not the manifest of an index (wrong magic)")
    if version != VERSION:
        raise CheckpointInvalid(
            path, f"its format version is {version}; this program reads version {VERSION}"
        )
    body = raw[: -_CHECKSUM.size]
    if len(body) % _ALIGNMENT or _CHECKSUM.unpack(raw[-_CHECKSUM.size :])[0] != _checksum(body):
        raise CheckpointInvalid(path, "it is damaged or cut short (wrong checksum)")
    try:
        return _parsed(body, header_length)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointInvalid(path, f"its header contradicts its content ({error})") from error


def _parsed(body: bytes, header_length: int) -> Manifest:
    header: dict[str, Any] = json.loads(body[_PREFIX.size : _PREFIX.size + header_length])
    segments = [SegmentEntry(**entry) for entry in header["segments"]]
    head_rows = int(header["head_rows"])
    reader = _Reader(body, _PREFIX.size + header_length)
    manifest = Manifest(
        store_id=str(header["store_id"]),
        applied_seq=int(header["applied_seq"]),
        lineage=_mark(header["lineage"]),
        segments=segments,
        counts=reader.take("<i4", BUCKETS),
        alive=[reader.take("<u8", entry.n_alive_words) for entry in segments],
        head=Rows(
            reader.take("<i8", head_rows),
            reader.take("<f8", head_rows, CHANNELS),
            reader.take("<i2", head_rows, CHANNELS, KEPT),
        ),
    )
    if reader.offset != len(body):
        raise ValueError(f"{len(body) - reader.offset} bytes too many")
    return manifest


def _mark(found: Any) -> Mark | None:
    return None if found is None else Mark(int(found["seq"]), str(found["token"]))


class _Reader:
    """Reads arrays one after the other from the manifest's payload."""

    def __init__(self, body: bytes, offset: int) -> None:
        self._body = body
        self.offset = offset

    def take(self, dtype: DTypeLike, *shape: int) -> NDArray[Any]:
        """Return the next array; raises ValueError if the bytes end before it does."""
        count = int(np.prod(shape))
        array = np.frombuffer(self._body, dtype=dtype, count=count, offset=self.offset)
        self.offset += array.nbytes
        return array.reshape(shape)


def _checksum(body: bytes) -> int:
    return checksum(np.frombuffer(body, dtype=np.uint64))
