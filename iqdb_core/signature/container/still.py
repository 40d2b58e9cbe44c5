"""The picture of a file that counts, as described by the file's structure.

Values only. Made by the readers of this folder, used by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PIECES: Final = 65_536
"""Limit of chunks, segments, strips or pages of a file; each costs time whatever it contains."""


@dataclass(frozen=True, slots=True)
class Still:
    """The first frame of a file, found without decoding a pixel.

    Parameters
    ----------
    format : str
        Its name, as messages give it.
    data : bytes
        A file of that format with this frame and, as far as its reader can separate them, only what its
        pixels depend on: no comments, profiles or further frames, which could make a decoder fail.
    canvas : (int, int) or None
        Width and height in pixels before `orientation`; None if only the decoder reads them.
    orientation : int
        EXIF orientation, 1..8; 1 means upright.
    corner : (int, int)
        Where on the canvas the decoded frame begins. The rest of the canvas is transparent.
    scans : int
        How many passes over all its pixels the file needs.
    pixels_begin : int
        Where in `data` the compressed pixels of a JPEG (its first scan, header included), a PNG, a GIF or
        a WebP that is cut within its pixels begin.
    scans_end : int
        Where in `data` the data of the last scan of a JPEG ends; 0 if it has only one scan, or if its codes
        are arithmetic, whose decoder cannot wait for more.
    channels : int
        Colour components of a JPEG; 0 for other formats.
    is_12_bit : bool
        Whether each pixel of a grey picture is given as three pixels of 4 bits.
    is_inverted : bool
        Whether a JPEG of four components has 0 for full ink.
    is_cut : bool
        Whether the structure alone shows damage: something is missing, or a checksum of pixels is wrong.
    """

    format: str
    data: bytes
    canvas: tuple[int, int] | None = None
    orientation: int = 1
    corner: tuple[int, int] = (0, 0)
    scans: int = 1
    pixels_begin: int = 0
    scans_end: int = 0
    channels: int = 0
    is_12_bit: bool = False
    is_inverted: bool = False
    is_cut: bool = False
