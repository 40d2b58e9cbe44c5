"""Which pixels an image file shows.

With `bands` and `packed` the only user of Pillow. Turns every way in which a file can be wrong into an
ImageError, within the limits it is given. Never hashes. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

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
from iqdb_core.signature.bands import READ_MODES, SIDEWAYS, on_canvas, upright_bands
from iqdb_core.signature.container.exif import orientation_of

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

_MAX_SIDE: Final = 1_000_000
"""Decoders and kernels spend some time on every row, however short; only PNG, TIFF and BMP can be longer."""
_MAX_SCANS: Final = 500
_MAX_SCAN_PASSES: Final = 25
_SLOW_PIXELS: Final = 1_000_000
"""Limit for decoders that hold the GIL (JPEG 2000: 0.14 s per megapixel) or run in Python (BMP's RLE)."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one image may cost.

    Parameters
    ----------
    max_pixels : int
        Width times height, held against the header before anything is decoded.

    Notes
    -----
    Peak memory per pixel beside the file itself, measured with Pillow 13: grey, palette and GIF 1 byte;
    colour JPEG, PNG, BMP and TIFF 4; AVIF 9; progressive JPEG 10, of CMYK 12; WebP 16. The rest (bands of
    2**16 pixels, the kernels' sums) is a few MB for any image. An AVIF whose container lies about its size
    is only stopped by libavif's own limit of 2**28 pixels, 0.5 GB.
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
    if image.mode not in READ_MODES:
        raise UnsupportedFormat(f"a {still.format} with pixels of the kind {image.mode} is not read")
    with _pillow_errors(still.format):
        bands = upright_bands(image, orientation)
    if still.canvas is not None and still.canvas != image.size:
        if still.format != "GIF":
            raise CorruptImage(f"the {still.format} contradicts itself about its size")
        bands = on_canvas(bands, still.canvas, still.corner)
        width, height = still.canvas
    else:
        width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
    return Picture(width, height, _guarded(bands, still.format))


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptImage("the image has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(width * height, max_pixels)
    if max(size) > _MAX_SIDE:
        raise UnsupportedFormat(f"an image with a side of more than {_MAX_SIDE} pixels is not read")


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


def _guarded(bands: Iterator[NDArray[np.uint32]], name: str) -> Iterator[NDArray[np.uint32]]:
    """Yield the bands; what Pillow raises while it converts them is the file's fault too."""
    with _pillow_errors(name):
        yield from bands
