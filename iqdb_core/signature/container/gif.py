"""The first frame of a GIF file.

Makes a file of that frame alone, without its position on the canvas, comments or later instructions. Says
whether the file is truncated, even after that frame. Called by `container.read`.
"""

from __future__ import annotations

import struct
from typing import Final

from iqdb_core.errors import CorruptImage
from iqdb_core.signature.container.still import MAX_PIECES, Still

MAGICS: Final = (b"GIF87a", b"GIF89a")

_EXTENSION: Final = 0x21
_FRAME: Final = 0x2C
_CONTROL: Final = 0xF9
_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
"""Names of the extension that says how often an animation is shown."""
_MOST_BLOCKS: Final = 8 * MAX_PIECES
"""Limit of blocks walked after the first frame: 130 MB of a usual file, about 50 ms for a strange one."""
_HAS_PALETTE: Final = 0x80
_HAS_TRANSPARENCY: Final = 0x01


def read(data: bytes) -> Still:
    """Walk the blocks up to the first frame; see `container.read` for what is raised."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    palette_end = 13 + _palette_bytes(flags)
    position = palette_end
    control = b""
    is_animated = False
    for _ in range(MAX_PIECES):
        if data[position] != _EXTENSION:
            break
        is_animated |= data[position + 3 : position + 14] in _LOOPS
        label, size = data[position + 1], data[position + 2]
        if label == _CONTROL and size == 4:
            has_transparency, index = data[position + 3] & _HAS_TRANSPARENCY, data[position + 6]
            control = bytes((_EXTENSION, _CONTROL, 4, has_transparency, 0, 0, index, 0))
        position = _blocks_end(data, position + 2)
    else:
        raise CorruptImage(f"the GIF is in more than {MAX_PIECES} pieces")
    if data[position] != _FRAME:
        raise CorruptImage("the GIF has no picture in it")
    left, top, across, down, frame_flags = struct.unpack_from("<4HB", data, position + 1)
    if not across or not down:
        raise CorruptImage("the GIF's first frame has no pixels")
    header = b"".join(
        (
            data[:6],
            struct.pack("<HHBBB", across, down, flags, 0, 0),
            data[13:palette_end],
            control,
            struct.pack("<B4HB", _FRAME, 0, 0, across, down, frame_flags),
        )
    )
    # A frame may reach beyond the canvas that the header announces; decoders enlarge the canvas.
    canvas = (max(width, left + across), max(height, top + down))
    pixels_begin = len(header) + _palette_bytes(frame_flags)
    return Still(
        "GIF",
        header + data[position + 10 :],
        canvas,
        corner=(left, top),
        pixels_begin=pixels_begin,
        is_cut=_is_cut(data, position, is_animated=is_animated),
    )


def _is_cut(data: bytes, position: int, *, is_animated: bool) -> bool:
    """Return whether the file ends within a block after the first frame, or an animation before its end.

    Single pictures without an end marker do not count as truncated, because some programs write them. Nothing
    after an invalid block is examined.
    """
    frames = 0
    left = _MOST_BLOCKS
    try:
        while position < len(data) and data[position] in {_EXTENSION, _FRAME}:
            if data[position] == _FRAME:
                frames += 1
                position += 11 + _palette_bytes(data[position + 9])
            else:
                position += 2
            while size := data[position]:
                position += 1 + size
                left -= 1
                if not left:
                    return False
            position += 1
    except IndexError:
        return True
    return position >= len(data) and (is_animated or frames > 1)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & _HAS_PALETTE else 0


def _blocks_end(data: bytes, position: int) -> int:
    """Return the position after a chain of sub-blocks, each led by its length, that a length of 0 ends."""
    while size := data[position]:
        position += 1 + size
    return position + 1
