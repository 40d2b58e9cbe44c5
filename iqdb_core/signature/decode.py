"""Which pixels an image file shows.

With `packed` the only user of Pillow. Turns every way in which a file can be wrong into an ImageError,
within the limits it is given. Never hashes. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.IcoImagePlugin import IcoImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from iqdb_core.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedFormat
from iqdb_core.signature import container
from iqdb_core.signature.container.exif import orientation_of
from iqdb_core.signature.flatten import WHITE, grey16_on_white, look_up, on_white
from iqdb_core.signature.packed import INDEXED_MODES, ONE_BLOCK_BYTES, PACKED_MODES, indexed, packed

_OPENERS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "ICO": IcoImageFile,
    "PPM": PpmImageFile,
    "TGA": TgaImageFile,
}
"""Named one by one: the list of formats and the limit of `Image.open` belong to the whole process."""

_GREY16_MODES: Final = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}
_CONVERTED_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "CMYK", "YCbCr", *_GREY16_MODES})
_BAND_PIXELS: Final = 1 << 16
_MAX_SCANS: Final = 500
_MAX_SCAN_PASSES: Final = 25
_SLOW_PIXELS: Final = 1_000_000
"""Limit for decoders that hold the GIL (JPEG 2000: 0.14 s per megapixel) or run in Python (BMP's RLE)."""

_TRANSPOSED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a stored picture upright, by EXIF orientation."""
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
_FROM_THE_END: Final = frozenset({3, 4, 7, 8})
"""Orientations whose first upright row is the last stored row or column."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one image may cost.

    Parameters
    ----------
    max_pixels : int
        Width times height, held against the header before anything is decoded.

    Notes
    -----
    Peak memory per pixel, beside the file itself (measured with Pillow 13): 4 bytes for JPEG, PNG, BMP and
    TIFF, 1 for GIF, 10 for progressive JPEG, 14 for AVIF, 20 for WebP. The rest (bands of 2**16 pixels, the
    kernels' sums) is a few MB for any image.
    """

    max_pixels: int = 100_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, upright.

    Parameters
    ----------
    width, height : int
        In pixels.
    bands : iterator of (n, width) uint32 ndarray, read-only
        The rows from the top, packed as `packed` does, on white; each is valid until the next is asked for.
        May raise CorruptImage.
    """

    width: int
    height: int
    bands: Iterator[NDArray[np.uint32]]


def decode(data: bytes, limits: DecodeLimits) -> Picture:
    """Decode the first frame.

    Parameters
    ----------
    data : bytes
        A whole file; its content decides the format.
    limits : DecodeLimits

    Returns
    -------
    Picture

    Raises
    ------
    UnsupportedFormat, CorruptImage, ImageTooLarge
        Nothing else, whatever the bytes.
    """
    still = container.read(data)
    max_pixels = limits.max_pixels
    if still.canvas is not None:
        _check_size(still.canvas, max_pixels)
        _check_scans(still.scans, still.canvas, max_pixels)
    with _pillow_errors(still.format):
        image = _OPENERS[still.format](io.BytesIO(still.data))
        _check_size(image.size, _pillow_limit(image, max_pixels))
        orientation = (
            orientation_of(image.info.get("exif", b"")) if still.format == "AVIF" else still.orientation
        )
        image.load()
    if image.mode not in PACKED_MODES | _CONVERTED_MODES:
        raise UnsupportedFormat(f"a {still.format} with pixels of the kind {image.mode} is not read")
    bands = _bands(image, orientation, still.format)
    if still.canvas is not None and still.canvas != image.size:
        if still.format != "GIF":
            raise CorruptImage(f"the {still.format} contradicts itself about its size")
        bands = _on_canvas(bands, still.canvas, still.corner)
        width, height = still.canvas
    else:
        width, height = image.size[::-1] if orientation in _SIDEWAYS else image.size
    return Picture(width, height, bands)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptImage("the image has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(width * height, max_pixels)


def _check_scans(scans: int, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a JPEG that goes over its pixels so often that few bytes cost minutes."""
    if scans > _MAX_SCANS or scans * size[0] * size[1] > _MAX_SCAN_PASSES * max_pixels:
        raise CorruptImage(f"the JPEG has {scans} scans, too many for its size")


def _pillow_limit(image: ImageFile.ImageFile, max_pixels: int) -> int:
    """Return the limit for an opened image, lower where Pillow is slow or has a limit of its own."""
    pillow_pixels = Image.MAX_IMAGE_PIXELS or max_pixels
    if image.format == "JPEG2000" or (image.tile and image.tile[0].codec_name == "bmp_rle"):
        return min(max_pixels, _SLOW_PIXELS)
    if image.format == "TIFF":
        return min(max_pixels, pillow_pixels)
    if image.format == "WEBP":
        return min(max_pixels, pillow_pixels * 2)
    return max_pixels


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into CorruptImage; it has no error class of its own for damaged files."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise CorruptImage(f"the {name} is damaged: {reason}") from error


def _bands(image: Image.Image, orientation: int, name: str) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows of the upright picture, on white."""
    is_whole = image.width * image.height * 4 <= ONE_BLOCK_BYTES
    if not is_whole or orientation in _TRANSPOSED or image.mode not in PACKED_MODES | INDEXED_MODES:
        return _converted(image, orientation, name)
    if image.mode in INDEXED_MODES:
        with _pillow_errors(name):
            colours = _colours(image)
        return _written(indexed(image), lambda pixels, out: look_up(pixels, colours, out))
    if image.mode == "RGBA":
        return _written(packed(image), on_white)
    return iter((packed(image),))


def _written(
    pixels: NDArray[Any], write: Callable[[NDArray[Any], NDArray[np.uint32]], None]
) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows after translating them, each band into the same memory."""
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
    return _to_packed(ramp).reshape(256)


def _converted(image: Image.Image, orientation: int, name: str) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows after cutting them out, converting them and turning them upright."""
    across, down = image.size[::-1] if orientation in _SIDEWAYS else image.size
    step = _band_rows(across)
    for top in range(0, down, step):
        bottom = min(top + step, down)
        begin, end = (down - bottom, down - top) if orientation in _FROM_THE_END else (top, bottom)
        box = (begin, 0, end, image.height) if orientation in _SIDEWAYS else (0, begin, image.width, end)
        with _pillow_errors(name):
            piece = image.crop(box)
            if orientation in _TRANSPOSED:
                piece = piece.transpose(_TRANSPOSED[orientation])
            band = _to_packed(piece)
        yield _read_only(band)


def _to_packed(piece: Image.Image) -> NDArray[np.uint32]:
    """Convert a small image of any mode that is read to packed pixels on white."""
    if piece.mode in _GREY16_MODES:
        grey = np.frombuffer(piece.tobytes(), _GREY16_MODES[piece.mode]).reshape(piece.height, piece.width)
        return grey16_on_white(grey.astype(np.uint16), piece.info.get("transparency", -1))
    if not piece.has_transparency_data:
        return packed(piece if piece.mode in PACKED_MODES else piece.convert("RGB"))
    rgba = piece if piece.mode == "RGBA" else piece.convert("RGBA")
    out = np.empty((piece.height, piece.width), np.uint32)
    on_white(packed(rgba), out)
    return out


def _band_rows(width: int) -> int:
    return max(1, _BAND_PIXELS // width)


def _read_only(band: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return a read-only view: the kernels are compiled for those."""
    view = band.view()
    view.flags.writeable = False
    return view


def _on_canvas(
    bands: Iterator[NDArray[np.uint32]], canvas: tuple[int, int], corner: tuple[int, int]
) -> Iterator[NDArray[np.uint32]]:
    """Yield the rows of a white canvas with a picture somewhere on it."""
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
