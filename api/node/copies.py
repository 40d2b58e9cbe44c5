"""The protocol of searches for copies between front end and query node: binary records, little-endian.

The request has a record per signature: its part (4 x int32, width 0 for the whole), its turn (a short text)
and the signature. The answer has the query's detail, then a record per match. Parameters are in the query
string, except the ids to leave out: there may be many, so they are in the body, before the signatures. The
picture's `width` and `height` may be missing or ignored: older front ends and nodes do not know them.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Final

from iqdb_core import codec
from iqdb_core.errors import InvalidHash
from iqdb_core.model import Copies, Copy, QuerySignature, Rectangle

_COUNTS: Final = struct.Struct("<II")
_ID: Final = struct.Struct("<q")
_TURN_BYTES: Final = 24
_SIGNATURE: Final = struct.Struct(f"<iiii{_TURN_BYTES}s{codec.SIGNATURE_BYTES}s")
_DETAIL: Final = struct.Struct("<d")
_COPY: Final = struct.Struct(f"<qdddiiii{_TURN_BYTES}s{codec.SIGNATURE_BYTES}s")


def pack_search(signatures: Sequence[QuerySignature], exclude: Collection[int]) -> bytes:
    """Return the body of a request."""
    records = [
        _SIGNATURE.pack(*_numbers(one.part), one.turn.encode(), codec.to_bytes(one.signature))
        for one in signatures
    ]
    ids = [_ID.pack(image_id) for image_id in sorted(exclude)]
    return b"".join([_COUNTS.pack(len(ids), len(records)), *ids, *records])


def size_parameters(signatures: Sequence[QuerySignature]) -> dict[str, int]:
    """Return the parameters of the query string for the size of the whole picture."""
    size = signatures[0].size
    return {} if size is None else dict(zip(("width", "height"), size, strict=True))


def unpack_search(raw: bytes, size: tuple[int, int] | None) -> tuple[list[QuerySignature], frozenset[int]]:
    """Return what `pack_search` packed, with the size from the query string.

    Raises
    ------
    InvalidHash
        The bytes are not such a request.
    """
    if len(raw) < _COUNTS.size:
        raise InvalidHash(f"{len(raw)} bytes are not a search for copies")
    n_ids, n_signatures = _COUNTS.unpack_from(raw)
    ids_end = _COUNTS.size + n_ids * _ID.size
    if len(raw) != ids_end + n_signatures * _SIGNATURE.size:
        raise InvalidHash(f"{len(raw)} bytes are not a search for copies")
    exclude = frozenset(found for (found,) in _ID.iter_unpack(raw[_COUNTS.size : ids_end]))
    signatures = [
        QuerySignature(codec.from_bytes(signature), _rectangle(*numbers), _turn(turn), size)
        for *numbers, turn, signature in _SIGNATURE.iter_unpack(raw[ids_end:])
    ]
    return signatures, exclude


def pack_copies(copies: Copies) -> bytes:
    """Return the body of an answer."""
    records = [
        _COPY.pack(
            match.image_id,
            match.score,
            match.likelihood,
            match.detail,
            *_numbers(match.part),
            match.turn.encode(),
            codec.to_bytes(match.signature),
        )
        for match in copies.matches
    ]
    return b"".join([_DETAIL.pack(copies.detail), *records])


def unpack_copies(raw: bytes) -> Copies:
    """Return what `pack_copies` packed; raises InvalidHash if the bytes are not such an answer."""
    if len(raw) < _DETAIL.size or (len(raw) - _DETAIL.size) % _COPY.size:
        raise InvalidHash(f"an answer of {len(raw)} bytes is not a list of copies")
    matches = []
    for image_id, score, likelihood, detail, *numbers, turn, stored in _COPY.iter_unpack(raw[_DETAIL.size :]):
        part = _rectangle(*numbers)
        found = codec.from_bytes(stored)
        matches.append(Copy(image_id, score, found, likelihood, detail, part, _turn(turn)))
    return Copies(matches, *_DETAIL.unpack_from(raw))


def _numbers(part: Rectangle | None) -> tuple[int, int, int, int]:
    return (0, 0, 0, 0) if part is None else (part.x, part.y, part.width, part.height)


def _rectangle(x: int, y: int, width: int, height: int) -> Rectangle | None:
    return Rectangle(x, y, width, height) if width else None


def _turn(raw: bytes) -> str:
    try:
        return raw.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise InvalidHash("a turn is a short word") from None
