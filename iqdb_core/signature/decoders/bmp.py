"""Decodes all kinds of BMPs, and the bitmaps inside icons, without Pillow, which supports fewer kinds.

Pixels are unpacked a band at a time. Missing rows are white, as are pixels left out by run-length coding.
Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.errors import CorruptImage
from iqdb_core.forms import two_forms
from iqdb_core.signature.arithmetic import on_white
from iqdb_core.signature.container import Still
from iqdb_core.signature.container.bmp import PLAIN, Bitmap, header, of_file
from iqdb_core.signature.packed import WHITE
from iqdb_core.signature.picture import Picture

_BAND_PIXELS: Final = 1 << 16
_LEFT_OUT: Final = 256
"""The index of pixels that run-length coding leaves out."""
_PLAIN_MASKS: Final = (0xFF0000, 0x00FF00, 0x0000FF, 0)
_ICON_ALPHA: Final = 0xFF000000
_OPAQUE: Final = np.uint32(0xFF000000)

unpack_rle: Final[Callable[[NDArray[np.uint8], int, NDArray[np.uint16]], int]] = two_forms(
    compiled="iqdb_core.signature.decoders.rle:unpack_rle", plain=None
)
"""See `rle`."""


def show(still: Still) -> Picture:
    """Decode a BMP, or the bitmap of an icon that the container has cut out."""
    is_icon = still.format == "ICO"
    bitmap = header(still.data, 0) if is_icon else of_file(still.data)
    assert still.canvas is not None  # noqa: S101 - the container always knows
    width, height = still.canvas
    if bitmap.compression == PLAIN:
        masks = bitmap.masks
        if is_icon and bitmap.bits == 32:
            masks = (*masks[:3], masks[3] or _ICON_ALPHA)
        rows: _Rows | _Indices = _Rows(still.data, bitmap, width, height, masks)
    else:
        packed = np.frombuffer(still.data, np.uint8)[bitmap.pixels_begin :]
        indices = np.full((height, width), _LEFT_OUT, np.uint16)
        rows = _Indices(still.data, bitmap, indices, unpack_rle(packed, bitmap.bits, indices))
    there = rows.there
    if 2 * there < height:
        raise CorruptImage(f"the {still.format} is damaged: less than half of its rows are there")
    bands = _bands(rows, width, height, there, is_top_down=bitmap.is_top_down)
    if is_icon:
        bands = _masked(bands, still.data, bitmap, width, height, has_alpha=rows.has_alpha)
    bands = _flattened(bands) if rows.has_alpha else map(_read_only, bands)
    return Picture(width, height, bands, is_damaged=there < height)


class _Rows:
    """The rows of a BMP that is not compressed, from the first in the file.

    Parameters
    ----------
    data : bytes
    bitmap : Bitmap
    width, height : int
        In pixels.
    masks : (int, int, int, int)
        As in `Bitmap`.
    """

    def __init__(
        self, data: bytes, bitmap: Bitmap, width: int, height: int, masks: tuple[int, int, int, int]
    ) -> None:
        self._bits = bitmap.bits
        self._width = width
        used = (width * bitmap.bits + 7) // 8
        self._stride = stride(width, bitmap.bits)
        left = max(0, len(data) - bitmap.pixels_begin)
        self.there = min(height, (left + self._stride - used) // self._stride)
        whole = data[bitmap.pixels_begin : bitmap.pixels_begin + self.there * self._stride]
        padded = whole + bytes(self.there * self._stride - len(whole))
        self._bytes = np.frombuffer(padded, np.uint8).reshape(self.there, self._stride)
        self._colours = _palette(data, bitmap)
        self._masks = masks
        self.has_alpha = self._finds_alpha()

    def read(self, first: int, last: int, *, is_top_down: bool) -> NDArray[np.uint32]:
        """Return rows, from the top, as red, green, blue and alpha from the low byte up."""
        raw = self._bytes[first:last] if is_top_down else self._bytes[first:last][::-1]
        if self._bits <= 8:
            return np.take(self._colours, _indices(raw, self._bits, self._width))
        if self._bits == 24 or (self._bits == 32 and self._masks == _PLAIN_MASKS):
            step = self._bits // 8
            colours = np.empty((len(raw), self._width, 4), np.uint8)
            for place in range(3):
                colours[:, :, place] = raw[:, 2 - place : step * self._width : step]
            colours[:, :, 3] = 255
            return colours.view(np.uint32)[:, :, 0]
        pixels = np.ascontiguousarray(raw).view("<u2" if self._bits == 16 else "<u4")[:, : self._width]
        return self._by_masks(pixels.astype(np.uint32))

    def _by_masks(self, pixels: NDArray[np.uint32]) -> NDArray[np.uint32]:
        out = np.zeros(pixels.shape, np.uint32)
        for place, mask in enumerate(self._masks):
            if place == 3 and not self.has_alpha:
                out |= _OPAQUE
            elif mask:
                out |= _scaled(pixels, mask) << np.uint32(8 * place)
        return out

    def _finds_alpha(self) -> bool:
        """Return whether alpha is used: a picture with no opacity anywhere does not use it."""
        if self._bits not in {16, 32} or not self._masks[3]:
            return False
        step = max(1, _BAND_PIXELS // self._width)
        kind = "<u2" if self._bits == 16 else "<u4"
        return any(
            (
                np.ascontiguousarray(self._bytes[top : top + step]).view(kind)[:, : self._width]
                & self._masks[3]
            ).any()
            for top in range(0, self.there, step)
        )


class _Indices:
    """The rows of a BMP with unpacked indices, from the first in the file."""

    has_alpha = False

    def __init__(self, data: bytes, bitmap: Bitmap, indices: NDArray[np.uint16], there: int) -> None:
        self.there = there
        self._colours = np.append(_palette(data, bitmap), np.uint32(WHITE))
        self._indices = indices

    def read(self, first: int, last: int, *, is_top_down: bool) -> NDArray[np.uint32]:
        """Return rows, from the top, as red, green, blue and alpha from the low byte up."""
        indices = self._indices[first:last]
        return np.take(self._colours, indices if is_top_down else indices[::-1])


def stride(width: int, bits: int) -> int:
    """Return the bytes of a row, which is filled up to whole words of 32 bits."""
    return (width * bits + 31) // 32 * 4


def _palette(data: bytes, bitmap: Bitmap) -> NDArray[np.uint32]:
    """Return 256 opaque colours, black where the file has none."""
    colours = np.full(256, _OPAQUE, np.uint32)
    raw = data[bitmap.palette_begin : bitmap.palette_begin + bitmap.colours * bitmap.palette_entry]
    entries = np.frombuffer(raw[: len(raw) // bitmap.palette_entry * bitmap.palette_entry], np.uint8)
    blue, green, red = entries.reshape(-1, bitmap.palette_entry).astype(np.uint32).T[:3]
    colours[: len(red)] |= red | green << np.uint32(8) | blue << np.uint32(16)
    return colours


def _indices(raw: NDArray[np.uint8], bits: int, width: int) -> NDArray[np.uint8]:
    """Return one byte per pixel from rows of 1, 2, 4 or 8 bits, the highest bits first."""
    if bits == 8:
        return raw[:, :width]
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    spread = (raw[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(len(raw), -1)[:, :width]


def _scaled(pixels: NDArray[np.uint32], mask: int) -> NDArray[np.uint32]:
    """Return a channel as 0..255."""
    low = (mask & -mask).bit_length() - 1
    top = mask >> low
    values = (pixels & np.uint32(mask)) >> np.uint32(low)
    if top == 255:
        return values
    # 64 bits, as a mask may be that wide.
    return ((values.astype(np.uint64) * np.uint64(510) + np.uint64(top)) // np.uint64(2 * top)).astype(
        np.uint32
    )


def _bands(
    rows: _Rows | _Indices, width: int, height: int, there: int, *, is_top_down: bool
) -> Iterator[NDArray[np.uint32]]:
    """Yield RGBA rows from the top; white where the file has none."""
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        first, last = (top, bottom) if is_top_down else (height - bottom, height - top)
        part = rows.read(min(first, there), min(last, there), is_top_down=is_top_down)
        if len(part) == bottom - top:
            yield np.ascontiguousarray(part)
            continue
        band = np.full((bottom - top, width), WHITE, np.uint32)
        band[slice(len(part)) if is_top_down else slice(bottom - top - len(part), None)] = part
        yield band


def _masked(
    bands: Iterator[NDArray[np.uint32]],
    data: bytes,
    bitmap: Bitmap,
    width: int,
    height: int,
    *,
    has_alpha: bool,
) -> Iterator[NDArray[np.uint32]]:
    """Apply an icon's mask, unless the picture has alpha of its own; the mask may be missing."""
    begin = bitmap.pixels_begin + stride(width, bitmap.bits) * height
    across = stride(width, 1)
    done = 0
    for band in bands:
        first = begin + (height - done - len(band)) * across
        raw = data[first : first + len(band) * across]
        done += len(band)
        if not has_alpha and len(raw) == len(band) * across:
            mask = _indices(np.frombuffer(raw, np.uint8).reshape(len(band), across), 1, width)[::-1]
            band[mask == 1] = WHITE
        yield band


def _flattened(bands: Iterator[NDArray[np.uint32]]) -> Iterator[NDArray[np.uint32]]:
    for band in bands:
        out = np.empty_like(band)
        on_white(_read_only(band), out)
        yield _read_only(out)


def _read_only(band: NDArray[np.uint32]) -> NDArray[np.uint32]:
    band.flags.writeable = False
    return band
