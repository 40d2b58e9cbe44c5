"""Decodes the pixels of an image file.

Only this, `picture`, `bands`, `packed`, `decoders` and `thumbnail` use Pillow. Turns every defect of a file
into an ImageError, within the given limits; running out of memory is not a defect of the file. Never hashes.
Called by `iqdb_core.signature` and `thumbnail` only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from iqdb_core.errors import CorruptImage, ImageTooLarge, UnsupportedFormat
from iqdb_core.signature import container
from iqdb_core.signature.bands import READ_MODES, SIDEWAYS, on_canvas, upright_bands
from iqdb_core.signature.container import Still
from iqdb_core.signature.container.exif import orientation_of
from iqdb_core.signature.decoders import bmp, gif, heic, jpeg, jpegxl, png, webp
from iqdb_core.signature.decoders.failure import decoder_errors
from iqdb_core.signature.decoders.quiet import be_quiet
from iqdb_core.signature.picture import DecodeLimits, Loaded, Picture

be_quiet()

_OPENERS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "TIFF": TiffImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PPM": PpmImageFile,
    "TGA": TgaImageFile,
}
"""Named one by one: the list of formats and the limit of `Image.open` belong to the whole process."""

_LOADERS: Final = {"JPEG": jpeg.load, "PNG": png.load, "GIF": gif.load}
"""Formats with a decoder of our own, which reads more than Pillow."""

_TARGA_FLAGS: Final = 17
_MAX_SIDE: Final = 1_000_000
"""Decoders and kernels need some time for every row, however short; only PNG, TIFF and BMP can be longer."""
_MAX_SCANS: Final = 500
_MAX_SCAN_PASSES: Final = 25
_SLOW_PIXELS: Final = 25_000_000
"""Limit for JPEG 2000, whose decoder holds the GIL for 0.14 s per megapixel."""


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
        No other errors are raised, whatever the bytes.
    MemoryError
        There is not enough memory now.
    """
    still = container.read(data)
    if still.canvas is not None:
        _check_size(still.canvas, limits.max_pixels)
        _check_scans(still.scans, still.canvas, limits.max_pixels)
        pixels = still.canvas[0] * still.canvas[1]
    else:
        pixels = 0
    if still.format in {"BMP", "ICO"}:
        return _unless_refused(bmp.show(still), still, limits)
    with decoder_errors(still.format, pixels):
        own = _LOADERS.get(still.format) or (webp.load if still.format == "WEBP" and still.is_cut else None)
        if own:
            loaded = own(still)
        elif still.format == "HEIC":
            loaded = heic.load(still, limits)
        elif still.format == "JPEG XL":
            shown = jpegxl.load(still)
            if isinstance(shown, bytes):
                return decode(shown, limits)
            loaded = shown
        else:
            loaded = _load(still, limits)
    image = loaded.image
    if image.mode not in READ_MODES:
        raise UnsupportedFormat(f"a {still.format} with {image.mode} pixels is not supported")
    orientation = orientation_of(image.info.get("exif", b"")) if still.format == "AVIF" else still.orientation
    with decoder_errors(still.format, pixels):
        bands = upright_bands(image, orientation)
    if still.canvas is not None and still.canvas != image.size and still.format != "JPEG XL":
        is_within = all(
            begin + side <= whole
            for begin, side, whole in zip(still.corner, image.size, still.canvas, strict=True)
        )
        if still.format not in {"GIF", "PNG"} or not is_within:
            raise CorruptImage(f"the {still.format} contradicts itself about its size")
        bands = on_canvas(bands, still.canvas, still.corner)
        width, height = still.canvas
    else:
        width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
    picture = Picture(width, height, _guarded(bands, still.format, pixels), loaded.is_damaged)
    return _unless_refused(picture, still, limits)


def _unless_refused(picture: Picture, still: Still, limits: DecodeLimits) -> Picture:
    """Return the picture, unless it is damaged and the limits refuse that."""
    if picture.is_damaged and limits.refuse_damaged:
        raise CorruptImage(f"the {still.format} is damaged, and damaged pictures are refused here")
    return picture


def _load(still: Still, limits: DecodeLimits) -> Loaded:
    """Decode with Pillow's own reader of the format."""
    image = _OPENERS[still.format](io.BytesIO(still.data))
    _check_size(image.size, _pillow_limit(image, limits.max_pixels))
    with decoder_errors(still.format, image.width * image.height):  # the size is known only now
        image.load()
    if still.is_12_bit:
        return Loaded(_joined(image), still.is_cut)
    if still.format == "TGA" and image.mode == "RGBA" and not still.data[_TARGA_FLAGS] & 0x0F:
        return Loaded(image.convert("RGB"))  # the fourth byte is unused
    return Loaded(image, still.is_cut)


def _joined(image: Image.Image) -> Image.Image:
    """Join every three grey pixels of 4 bits to one of 8, without the lowest 4 of 12 bits."""
    nibbles = np.asarray(image)
    return Image.fromarray(nibbles[:, 0::3] & np.uint8(0xF0) | nibbles[:, 1::3] >> np.uint8(4))


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptImage("the image has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(width * height, max_pixels)
    if max(size) > _MAX_SIDE:
        raise UnsupportedFormat(f"an image with a side of more than {_MAX_SIDE:,} pixels is not supported")


def _check_scans(scans: int, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a JPEG with so many scans that few bytes cost minutes."""
    if scans > _MAX_SCANS or scans * size[0] * size[1] > _MAX_SCAN_PASSES * max_pixels:
        raise CorruptImage(f"the JPEG has {scans} scans, too many for its size")


def _pillow_limit(image: ImageFile.ImageFile, max_pixels: int) -> int:
    """Return the limit for an opened image, lower where Pillow is slow or has a limit of its own."""
    pillow_pixels = Image.MAX_IMAGE_PIXELS or max_pixels
    if image.format == "JPEG2000":
        return min(max_pixels, _SLOW_PIXELS)
    if image.format == "TIFF":
        return min(max_pixels, pillow_pixels)
    if image.format == "WEBP":
        return min(max_pixels, pillow_pixels * 2)
    return max_pixels


def _guarded(bands: Iterator[NDArray[np.uint32]], name: str, pixels: int) -> Iterator[NDArray[np.uint32]]:
    """Yield the bands; errors of Pillow while it converts them are the file's fault too."""
    with decoder_errors(name, pixels):
        yield from bands
