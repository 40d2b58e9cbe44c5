"""Reads the canvas size and orientation of a WebP.

Passes the file on unchanged: the decoder's own container code checks that frames fit their canvas. For a
truncated file it says where the pixels begin. Called by `container.read`.
"""

from __future__ import annotations

import struct
from typing import Final

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container.exif import UPRIGHT, orientation_of
from iqdb_core.signature.container.still import MAX_PIECES, Still

_CHUNKS_BEGIN: Final = 12
_CHUNK_HEAD: Final = 8
_HAS_EXIF: Final = 0x08
_VP8_START: Final = b"\x9d\x01\x2a"
_VP8L_START: Final = 0x2F
_SIDE_MASK: Final = 0x3FFF
_PICTURES: Final = frozenset({b"VP8 ", b"VP8L"})
_ANIMATION: Final = frozenset({b"ANIM", b"ANMF"})


def is_webp(data: bytes) -> bool:
    """Whether the first bytes are those of a WebP."""
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def read(data: bytes) -> Still:
    """Read the first chunk, and walk the chunks if there is EXIF; see `container.read` for what is raised."""
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    is_cut = riff_bytes + 8 > len(data)
    name = data[_CHUNKS_BEGIN : _CHUNKS_BEGIN + 4]
    content = data[_CHUNKS_BEGIN + _CHUNK_HEAD : _CHUNKS_BEGIN + _CHUNK_HEAD + 10]
    orientation = UPRIGHT
    if name == b"VP8 " and content[3:6] == _VP8_START:
        width, height = (side & _SIDE_MASK for side in struct.unpack_from("<HH", content, 6))
    elif name == b"VP8L" and content[:1] == bytes((_VP8L_START,)):
        (sides,) = struct.unpack_from("<I", content, 1)
        width, height = (sides & _SIDE_MASK) + 1, (sides >> 14 & _SIDE_MASK) + 1
    elif name == b"VP8X" and len(content) == 10:
        width = int.from_bytes(content[4:7], "little") + 1
        height = int.from_bytes(content[7:10], "little") + 1
        if content[0] & _HAS_EXIF:
            orientation = orientation_of(_chunk(data, b"EXIF"))
    else:
        raise CorruptImage("the WebP does not begin with a picture")
    if not is_cut:
        return Still("WEBP", data, (width, height), orientation)
    begin, end = _pixels(data)
    if end <= len(data):  # only what follows the pixels is missing
        begin, data = 0, data[:4] + struct.pack("<I", end - 8) + data[8:end]
    return Still("WEBP", data, (width, height), orientation, pixels_begin=begin, is_cut=True)


def _pixels(data: bytes) -> tuple[int, int]:
    """Return where the pixels of a WebP that is cut begin and where they should end."""
    position = _CHUNKS_BEGIN
    for _ in range(MAX_PIECES):
        if position + _CHUNK_HEAD >= len(data) or data[position : position + 4] in _ANIMATION:
            break
        name = data[position : position + 4]
        (size,) = struct.unpack_from("<I", data, position + 4)
        begin = position + _CHUNK_HEAD
        position = begin + size + (size & 1)
        if name in _PICTURES:
            return begin, position
    raise CorruptImage("the WebP is cut short")


def _chunk(data: bytes, wanted: bytes) -> bytes:
    """Return the content of the first chunk of this name, or nothing."""
    position = _CHUNKS_BEGIN
    for _ in range(MAX_PIECES):
        if position + _CHUNK_HEAD > len(data):
            return b""
        name = data[position : position + 4]
        (size,) = struct.unpack_from("<I", data, position + 4)
        begin = position + _CHUNK_HEAD
        if name == wanted:
            return data[begin : begin + size]
        position = begin + size + (size & 1)
    raise CorruptImage(f"the WebP is in more than {MAX_PIECES} pieces")
