"""The critical parts of a PNG file.

Keeps header, palette, transparency and image data, checks their checksums, and drops everything else
unread: text that inflates to gigabytes, profiles, animation. So the picture of an animation is its default
image. Called by `container.read`.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container.exif import UPRIGHT, orientation_of
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_GREY: Final = 0
_RGB: Final = 2
_PALETTE: Final = 3
_WITHIN_CHUNK: Final = 12
"""Bytes of a chunk around its content: length and name before, checksum after."""


def read(data: bytes) -> Still:
    """Walk the chunks up to the end chunk; see `container.read` for what is raised."""
    view = memoryview(data)
    kept: list[bytes | memoryview] = [MAGIC]
    position = len(MAGIC)
    orientation = UPRIGHT
    canvas: tuple[int, int] | None = None
    bits = colours = 0
    has_data = False
    for _ in range(MAX_PIECES):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        end = position + _WITHIN_CHUNK + length
        if end > len(data):
            raise CorruptImage("the PNG is cut short")
        chunk, content = view[position:end], view[position + 8 : end - 4]
        position = end
        if canvas is None:
            if name != b"IHDR":
                raise CorruptImage("the PNG does not begin with its header")
            _check(chunk)
            width, height, bits, colours = struct.unpack_from(">IIBB", content)
            canvas = (width, height)
            kept.append(chunk)
        elif name in {b"PLTE", b"IDAT", b"IEND"}:
            _check(chunk)
            kept.append(chunk)
            has_data |= name == b"IDAT"
            if name == b"IEND":
                break
        elif name == b"tRNS":
            _check(chunk)
            kept.append(_transparency(bytes(content), bits, colours))
        elif name == b"eXIf" and orientation == UPRIGHT:
            orientation = orientation_of(bytes(content))
    else:
        raise CorruptImage(f"the PNG is in more than {MAX_PIECES} pieces")
    if not has_data:
        raise CorruptImage("the PNG has no image data")
    return Still("PNG", b"".join(kept), canvas, orientation)


def _check(chunk: memoryview) -> None:
    """Compare a critical chunk with its checksum."""
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        raise CorruptImage("the PNG is damaged: a checksum is wrong")


def _transparency(content: bytes, bits: int, colours: int) -> bytes:
    """Return the transparency chunk in terms of 8-bit samples, or nothing if it has no meaning.

    A transparent colour is given in the file's own depth, but Pillow compares it with the samples it has
    scaled to 8 bits. Grey of 16 bits stays as it is, because Pillow keeps those samples whole.
    """
    if colours == _RGB and len(content) == 6:
        samples = struct.unpack(">3H", content)
        content = struct.pack(">3H", *(sample >> 8 if bits == 16 else sample for sample in samples))
    elif colours == _GREY and len(content) == 2:
        (sample,) = struct.unpack(">H", content)
        content = struct.pack(">H", sample * 255 // ((1 << bits) - 1) if bits < 8 else sample)
    elif colours != _PALETTE:
        return b""
    body = b"tRNS" + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
