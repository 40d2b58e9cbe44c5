"""Finds the picture in a file, its format and size, and removes parts that decoders must not see.

Reads only the file's structure, in time proportional to its size, without decoding a pixel. Never uses
Pillow. Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

import struct
from typing import Final

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container import avif, bmp, gif, jpeg, jpegxl, others, png, tiff, webp
from iqdb_core.signature.container.still import Still

__all__ = ["Still", "read"]

_MAX_NAME_BYTES: Final = 200


def read(data: bytes) -> Still:
    """Tell the format by content and find the picture.

    Parameters
    ----------
    data : bytes
        A whole file.

    Returns
    -------
    Still
        Its size is not yet checked against any limit.

    Raises
    ------
    UnsupportedFormat
        Not a format that we read, or an unsupported kind of one.
    CorruptImage
        The structure is damaged or cut short.
    """
    if not data:
        raise UnsupportedFormat("the file is empty")
    try:
        return _read(data)
    except (struct.error, IndexError, OverflowError) as error:
        raise CorruptImage("the image is cut short") from error


def _read(data: bytes) -> Still:  # noqa: C901, PLR0911 - one line per format reads best
    if data.startswith(jpeg.MAGIC):
        return jpeg.read(data)
    if data.startswith(png.MAGIC):
        return png.read(data)
    if webp.is_webp(data):
        return webp.read(data)
    if data.startswith(gif.MAGICS):
        return gif.read(data)
    if avif.is_iso_media(data):
        return avif.read(data)
    if data.startswith(tiff.MAGICS):
        return tiff.read(data)
    if bmp.is_bmp(data):
        return bmp.read(data)
    if data.startswith(others.JPEG2000_MAGICS):
        return others.read_jpeg2000(data)
    if data.startswith(others.ICON_MAGIC):
        return others.read_icon(data)
    if data.startswith(jpegxl.MAGICS):
        return jpegxl.read(data)
    if others.is_pixmap(data):
        return others.read_pixmap(data)
    if others.is_targa(data):
        return Still("TGA", data)
    raise UnsupportedFormat(f"this is not an image in a supported format{_text_of(data)}")


def _text_of(data: bytes) -> str:
    """Return what to add about a line of text: mostly it is the name of a file, given in the file's place."""
    if len(data) > _MAX_NAME_BYTES or not data.isascii() or not data.decode("ascii").isprintable():
        return ""
    return f", but the text {data.decode('ascii')!r}"
