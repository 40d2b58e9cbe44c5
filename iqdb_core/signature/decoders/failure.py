"""What the exceptions of decoders mean.

Tells files that are damaged from kinds of files that are not read, and both from memory that ran out and from
bugs, which pass. Nothing of a decoder's own words goes into a message. Used by `decode`, the decoders, and
whoever decodes with them.
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
"""What Pillow and its like raise for bad bytes. Anything else, MemoryError above all, is not the file's
fault."""
_UNREAD_KIND: Final = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|cannot handle|not implemented|unimplemented",
    re.IGNORECASE,
)
"""How decoders say that they do not read a kind of file, whatever its condition."""
_NO_MEMORY: Final = re.compile(r"out of memory|memory allocation(?!.*limit)|bad_?alloc", re.IGNORECASE)
"""libheif speaks of allocation, too, where a file asks for more than it ever grants."""
_DECODER_BYTES: Final = 16
"""Bytes per pixel that the greediest decoder takes."""


@contextmanager
def decoder_errors(name: str, pixels: int = 0) -> Iterator[None]:
    """Turn what a decoder raises for bad bytes into an ImageError.

    Parameters
    ----------
    name : str
        The format, for the message.
    pixels : int
        How many are decoded; 0 if only headers are read.

    Raises
    ------
    CorruptImage, UnsupportedFormat
        Instead of any of `BAD_FILE`.
    MemoryError
        Also where the decoder calls the file broken for want of memory.
    """
    try:
        yield
    except BAD_FILE as error:
        words = str(error)
        if _NO_MEMORY.search(words):
            raise MemoryError from error
        _check_memory(pixels)
        if _UNREAD_KIND.search(words):
            raise UnsupportedFormat(f"a {name} of this kind is not read") from error
        raise CorruptImage(f"the {name} is damaged: its pixels cannot be decoded") from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn a MemoryError into an error of ours, which says that trying again can help."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory to decode the image now") from error


def _check_memory(pixels: int) -> None:
    """Raise MemoryError if a decoder could not have got its memory: most only say that they failed."""
    np.empty(pixels * _DECODER_BYTES, np.uint8)
