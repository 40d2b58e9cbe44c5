"""The rows of a decoded Pillow image, upright and on white, as the kernels want them.

Takes Pillow's images and turns them upright with Pillow. Copies at most one band of rows at a time. Called by
`decode` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iqdb_core.signature.arithmetic import look_up, on_white
from iqdb_core.signature.packed import INDEXED_MODES, ONE_BLOCK_BYTES, PACKED_MODES, WHITE, indexed, packed

_GREY16_MODES: Final = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}
READ_MODES: Final = PACKED_MODES | INDEXED_MODES | {"1", "LA", "PA", "CMYK", "YCbCr", *_GREY16_MODES}
"""Kinds of pixels that `upright_bands` takes."""
_BAND_PIXELS: Final = 1 << 16

_TRANSPOSED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transformation that turns a stored picture upright, by EXIF orientation."""
SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""Orientations that exchange width and height."""
_FROM_THE_END: Final = frozenset({3, 4, 7, 8})
"""Orientations whose first upright row is the last stored row or column."""


def upright_bands(image: Image.Image, orientation: int) -> Iterator[NDArray[np.uint32]]:
    """Return the rows of the upright picture, on white.

    Parameters
    ----------
    image : Image
        Loaded, in one of `READ_MODES`.
    orientation : int
        EXIF orientation, 1..8.

    Returns
    -------
    iterator of (n, width) uint32 ndarray, C-contiguous, read-only
        From the top; each band is valid until the next is requested. Pillow's errors are passed on.
    """
    is_whole = image.width * image.height * 4 <= ONE_BLOCK_BYTES
    if not is_whole or orientation in _TRANSPOSED or image.mode not in PACKED_MODES | INDEXED_MODES:
        return _converted(image, orientation)
    if image.mode in INDEXED_MODES:
        colours = _colours(image)
        return _written(indexed(image), lambda pixels, out: look_up(pixels, colours, out))
    if image.mode == "RGBA":
        return _written(packed(image), on_white)
    if image.has_transparency_data:  # one colour stands for transparency
        return _converted(image, orientation)
    return iter((packed(image),))


def _written(
    pixels: NDArray[Any], write: Callable[[NDArray[Any], NDArray[np.uint32]], None]
) -> Iterator[NDArray[np.uint32]]:
    """Yield the translated rows, each band in the same memory."""
    height, width = pixels.shape
    step = _band_rows(width)
    memory = np.empty((min(step, height), width), np.uint32)
    for top in range(0, height, step):
        part = pixels[top : top + step]
        out = memory[: len(part)]
        write(part, out)
        yield _read_only(out)


def _colours(image: Image.Image) -> NDArray[np.uint32]:
    """Return the 256 colours, on white, that an image's bytes stand for."""
    ramp = image.crop((0, 0, 256, 1))
    ramp.putdata(range(256))
    return _read_only(_to_packed(ramp).reshape(256))


def _converted(image: Image.Image, orientation: int) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows, cut out, converted and turned upright."""
    across, down = image.size[::-1] if orientation in SIDEWAYS else image.size
    step = _band_rows(across) * (4 if orientation in SIDEWAYS else 1)
    for top in range(0, down, step):
        bottom = min(top + step, down)
        begin, end = (down - bottom, down - top) if orientation in _FROM_THE_END else (top, bottom)
        box = (begin, 0, end, image.height) if orientation in SIDEWAYS else (0, begin, image.width, end)
        piece = image.crop(box)
        if orientation in _TRANSPOSED:
            piece = piece.transpose(_TRANSPOSED[orientation])
        yield _read_only(_to_packed(piece))


def _to_packed(piece: Image.Image) -> NDArray[np.uint32]:
    """Convert a small image of any mode that is read to packed pixels on white."""
    if piece.mode in _GREY16_MODES:
        grey = np.frombuffer(piece.tobytes(), _GREY16_MODES[piece.mode]).reshape(piece.height, piece.width)
        return _grey16_on_white(grey.astype(np.uint16), piece.info.get("transparency", -1))
    if piece.mode == "CMYK" and "inverted" in piece.info:
        return _ink_as_libgd_does(piece)
    if not piece.has_transparency_data:
        return packed(piece if piece.mode in PACKED_MODES else piece.convert("RGB"))
    rgba = piece if piece.mode == "RGBA" else piece.convert("RGBA")
    out = np.empty((piece.height, piece.width), np.uint32)
    on_white(packed(rgba), out)
    return out


def _grey16_on_white(grey: NDArray[np.uint16], transparent: int) -> NDArray[np.uint32]:
    """Convert 16-bit grey to packed pixels by its high byte, as Pillow scales 16-bit colours.

    `transparent` is the value of transparent pixels, which become white; -1 if there is none.
    """
    pixels = (grey >> np.uint16(8)).astype(np.uint32) * np.uint32(0x010101)
    if transparent >= 0:
        pixels[grey == transparent] = WHITE
    return pixels


def _ink_as_libgd_does(piece: Image.Image) -> NDArray[np.uint32]:
    """Convert the four inks of a JPEG to packed pixels, to the bit as IQDB does."""
    inks = np.frombuffer(piece.tobytes(), np.uint8).reshape(piece.height, piece.width, 4).astype(np.uint32)
    light = inks if piece.info["inverted"] else np.uint32(255) - inks
    shown = light[:, :, :3] * light[:, :, 3:] // np.uint32(255)
    out = np.zeros((piece.height, piece.width), np.uint32)
    for ink in range(3):
        out |= shown[:, :, ink] << np.uint32(8 * ink)
    return out


def _band_rows(width: int) -> int:
    return max(1, _BAND_PIXELS // width)


def _read_only(band: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return a read-only view: the kernels are compiled for those."""
    view = band.view()
    view.flags.writeable = False
    return view


def on_canvas(
    bands: Iterator[NDArray[np.uint32]], canvas: tuple[int, int], corner: tuple[int, int]
) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows of a white canvas with a picture on it, whose upper left corner is given."""
    width, height = canvas
    left, top = corner
    yield from _white(width, top)
    done = top
    for band in bands:
        rows = np.full((len(band), width), WHITE, np.uint32)
        rows[:, left : left + band.shape[1]] = band
        done += len(band)
        yield _read_only(rows)
    yield from _white(width, height - done)


def _white(width: int, rows: int) -> Iterator[NDArray[np.uint32]]:
    step = _band_rows(width)
    for begin in range(0, rows, step):
        yield _read_only(np.full((min(step, rows - begin), width), WHITE, np.uint32))
