"""The parts of a PNG file that its pixels depend on.

Keeps header, palette, transparency and image data, and drops everything else unread: text that inflates to
gigabytes, profiles, frames after the first. If the default image is no part of an animation, the first frame
replaces it, as in browsers. Wrong checksums of image data and a missing end are noted as damage; a damaged
header, palette or transparency is refused. Called by `container.read`.

References
----------
W3C, Portable Network Graphics (third edition), 2023.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container.exif import UPRIGHT, orientation_of
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_GREY: Final = 0
_RGB: Final = 2
_PALETTE: Final = 3
_WITHIN_CHUNK: Final = 12
"""Bytes of a chunk around its content: length and name before, checksum after."""
_HEADER_BYTES: Final = 13
_FRAME_BYTES: Final = 26


class _Chunk(NamedTuple):
    """A chunk's name and content, as far as present, and whether it is complete with the right checksum."""

    name: bytes
    content: memoryview
    is_sound: bool


@dataclass(slots=True)
class _Parts:
    """The parts found so far. Frame: size, and upper left corner on the canvas."""

    colours: list[bytes]
    default: list[memoryview]
    frame: tuple[int, int, int, int] | None = None
    moving: list[memoryview] | None = None
    orientation: int = UPRIGHT
    is_damaged: bool = False


def read(data: bytes) -> Still:
    """Walk the chunks up to the end chunk; see `container.read` for what is raised."""
    chunks = _chunks(data)
    first = next(chunks, None)
    if first is None or first.name != b"IHDR" or len(first.content) != _HEADER_BYTES:
        raise CorruptImage("the PNG does not begin with its header")
    _demand(first)
    width, height, bits, colours = struct.unpack_from(">IIBB", first.content)
    parts = _collect(chunks, bits, colours, (width, height))
    size, corner, pixels = (width, height), (0, 0), parts.default
    if parts.frame is not None and parts.moving:
        size, corner, pixels = parts.frame[:2], parts.frame[2:], parts.moving
        if size != (width, height):
            parts.orientation = UPRIGHT
    if not any(map(len, pixels)):
        raise CorruptImage("the PNG has no image data")
    if colours == _PALETTE and not any(one[4:8] == b"PLTE" for one in parts.colours):
        raise CorruptImage("the PNG is damaged: its palette is missing")
    ihdr = struct.pack(">II", *size) + bytes(first.content[8:])
    idat = b"".join(pixels)
    header = b"".join((MAGIC, chunk(b"IHDR", ihdr), *parts.colours, struct.pack(">I4s", len(idat), b"IDAT")))
    # Decoders ignore the checksum of image data.
    whole = b"".join((header, idat, bytes(4), chunk(b"IEND", b"")))
    return Still(
        "PNG",
        whole,
        (width, height),
        parts.orientation,
        corner,
        pixels_begin=len(header),
        is_cut=parts.is_damaged,
    )


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks; the last may be truncated, and anything invalid ends them."""
    view = memoryview(data)
    position = len(MAGIC)
    for _ in range(MAX_PIECES):
        if position + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, position)
        if not name.isalpha():
            return
        end = position + _WITHIN_CHUNK + length
        is_sound = end <= len(data) and zlib.crc32(view[position + 4 : end - 4]) == int.from_bytes(
            view[end - 4 : end], "big"
        )
        yield _Chunk(name, view[position + 8 : min(end - 4, len(data))], is_sound)
        position = end
    raise CorruptImage(f"the PNG is in more than {MAX_PIECES} pieces")


def _demand(needed: _Chunk) -> None:
    """Raise if no picture can be made of the parts."""
    if not needed.is_sound:
        raise CorruptImage(
            f"the PNG is damaged: its {needed.name.decode()} chunk is cut or its checksum wrong"
        )


def _collect(chunks: Iterator[_Chunk], bits: int, colours: int, canvas: tuple[int, int]) -> _Parts:  # noqa: C901 - a row per kind of chunk
    """Go through the chunks after the header."""
    parts = _Parts([], [])
    is_animation = is_default_in_it = False
    frames = 0
    for name, content, is_sound in chunks:
        match name:
            case b"PLTE":
                _demand(_Chunk(name, content, is_sound))
                parts.colours.append(chunk(name, bytes(content)))
            case b"tRNS":
                _demand(_Chunk(name, content, is_sound))
                parts.colours.append(_transparency(bytes(content), bits, colours))
            case b"IDAT":
                parts.default.append(content)
                parts.is_damaged |= not is_sound
            case b"IEND":
                parts.is_damaged |= not is_sound
                return parts
            case b"acTL" if not parts.default:
                is_animation = True
            case b"fcTL":
                frames += 1
                if not parts.default:
                    is_default_in_it = True
                elif is_animation and not is_default_in_it and frames == 1:
                    parts.frame, parts.moving = _frame(content, canvas), []
            case b"fdAT" if parts.moving is not None and frames == 1:
                parts.moving.append(content[4:])
                parts.is_damaged |= not is_sound
            case b"eXIf" if parts.orientation == UPRIGHT:
                parts.orientation = orientation_of(bytes(content))
            case _:
                pass
    parts.is_damaged = True  # no end
    return parts


def _frame(content: memoryview, canvas: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return size and corner of a frame, or None if it does not lie on the canvas."""
    if len(content) != _FRAME_BYTES:
        return None
    width, height, left, top = struct.unpack_from(">4I", content, 4)
    is_within = 0 < width <= canvas[0] - left and 0 < height <= canvas[1] - top
    return (width, height, left, top) if is_within else None


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
    return chunk(b"tRNS", content)
