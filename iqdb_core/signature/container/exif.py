"""Reads the orientation of a picture from its EXIF block.

A damaged block or an impossible value means upright, because the pixels are still good. Called by the readers
of this folder.
"""

from __future__ import annotations

import struct
from typing import Final

UPRIGHT: Final = 1
_PREFIX: Final = b"Exif\0\0"
_TAG: Final = 0x0112
_SHORT: Final = 3
_LONG: Final = 4
_ENTRY_BYTES: Final = 12


def orientation_of(block: bytes) -> int:
    """Return the orientation, 1..8.

    Parameters
    ----------
    block : bytes
        A TIFF header and its directories, with or without "Exif" and two zeros before it.

    Returns
    -------
    int
        1 if the block names no valid orientation.

    References
    ----------
    CIPA DC-008 (Exif 2.32), section 4.6.2 and tag 274.
    """
    tiff = block.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for n in range(entries):
            at = directory + 2 + n * _ENTRY_BYTES
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, at)
            if tag == _TAG and kind in {_SHORT, _LONG} and count == 1:
                (value,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, at + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT
    return UPRIGHT
