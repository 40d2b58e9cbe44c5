"""Translates exceptions of decoders.

Separates damaged files from unsupported kinds, and both from a lack of memory and from bugs, which are passed
on. A decoder's own message is never shown. Used by `decode`, the decoders, and their callers.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from PIL import Image

from iqdb_core.errors import CorruptImage, OutOfMemory, UnsupportedFormat

BAD_FILE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions of Pillow and other decoders for bad bytes. Others, MemoryError above all, are not the file's
fault."""
_UNREAD_KIND: Final = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|cannot handle|not implemented|unimplemented",
    re.IGNORECASE,
)
"""Messages of decoders for unsupported kinds of files."""
_NO_MEMORY: Final = re.compile(r"out of memory|memory allocation(?!.*limit)|bad_?alloc", re.IGNORECASE)
"""libheif also mentions allocation if a file needs more memory than libheif ever grants."""
_DECODER_BYTES: Final = 16
"""Most bytes per pixel that any decoder takes."""


@contextmanager
def decoder_errors(name: str, pixels: int = 0) -> Iterator[None]:
    """Turn a decoder's exceptions for bad bytes into an ImageError.

    Parameters
    ----------
    name : str
        The format, for the message.
    pixels : int
        How many pixels are decoded; 0 if only headers are read.

    Raises
    ------
    CorruptImage, UnsupportedFormat
        Instead of any of `BAD_FILE`.
    MemoryError
        Also if the decoder reports a broken file because it lacks memory.
    """
    try:
        yield
    except BAD_FILE as error:
        words = str(error)
        if _NO_MEMORY.search(words):
            raise MemoryError from error
        _check_memory(pixels)
        if _UNREAD_KIND.search(words):
            raise UnsupportedFormat(f"this kind of {name} is not supported") from error
        raise CorruptImage(f"the {name} is damaged: its pixels cannot be decoded") from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a MemoryError into OutOfMemory, which is retryable."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory to decode the image now") from error


def _check_memory(pixels: int) -> None:
    """Raise MemoryError if a decoder probably lacked memory: most of them only report a failure."""
    np.empty(pixels * _DECODER_BYTES, np.uint8)
