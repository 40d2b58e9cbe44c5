"""Which pixels does an image file show? The only user of Pillow.

Never hashes anything. Called by `iqdb_core.signature` only.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from iqdb_core.errors import CorruptImage, ImageTooLarge, UnsupportedFormat

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one image may cost.

    Parameters
    ----------
    max_pixels : int
        Width times height, as the header announces them.
    """

    max_pixels: int = 100_000_000


def to_pixels(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Decode the first frame, upright, on white: (height, width, 3) uint8."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            pixels = opened.width * opened.height
            if pixels > limits.max_pixels:
                raise ImageTooLarge(pixels, limits.max_pixels)
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise UnsupportedFormat("these bytes are no image of a format we read") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise CorruptImage(f"the image is damaged: {error}") from error
