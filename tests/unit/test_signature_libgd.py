"""Altered JPEGs against libgd itself, the library that reads pictures for IQDB, where it is installed."""

from __future__ import annotations

import ctypes
import ctypes.util
import random

import numpy as np
import pytest

from iqdb_core.errors import ImageError
from iqdb_core.signature import DecodeLimits
from iqdb_core.signature.decode import decode
from tests.fixtures.pictures import colours, encoded

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(ctypes.util.find_library("gd") is None, reason="libgd is not installed"),
]

SIZE = (45, 38)
"""Width and height in pixels: no whole number of blocks."""


@pytest.fixture(scope="module")
def libgd() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("gd"))
    library.gdImageCreateFromJpegPtr.restype = ctypes.c_void_p
    library.gdImageCreateFromJpegPtr.argtypes = [ctypes.c_int, ctypes.c_char_p]
    library.gdImageGetTrueColorPixel.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.gdImageDestroy.argtypes = [ctypes.c_void_p]
    library.gdSetErrorMethod.argtypes = [ctypes.c_void_p]
    library.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    library.gdSetErrorMethod(ctypes.cast(library.quiet, ctypes.c_void_p))
    return library


def theirs(libgd: ctypes.CDLL, data: bytes) -> np.ndarray | None:
    """Return what libgd reads, (height, width) of 0xRRGGBB, or None if it refuses."""
    image = libgd.gdImageCreateFromJpegPtr(len(data), data)
    if image is None:
        return None
    width, height = SIZE
    values = [libgd.gdImageGetTrueColorPixel(image, x, y) for y in range(height) for x in range(width)]
    libgd.gdImageDestroy(image)
    return np.array(values).reshape(height, width) & 0xFFFFFF


def ours(data: bytes) -> np.ndarray | None:
    """Return what we read, in the same form."""
    try:
        pixels = np.concatenate([band.copy() for band in decode(data, DecodeLimits()).bands])
    except ImageError:
        return None
    return (pixels & 255) << 16 | (pixels & 0xFF00) | (pixels >> 16 & 255)


SOURCES = {
    "colour": encoded(colours(1, SIZE), "JPEG", quality=80),
    "full colour": encoded(colours(1, SIZE), "JPEG", quality=80, subsampling=0),
    "grey": encoded(colours(2, SIZE).convert("L"), "JPEG", quality=70),
    "inks": encoded(colours(3, SIZE).convert("CMYK"), "JPEG", quality=70),
    "restarts": encoded(colours(4, SIZE), "JPEG", quality=80, restart_marker_blocks=2),
}


def altered(chance: random.Random, data: bytes) -> bytes:
    """Return the file cut, flipped, with bytes lost or put in, anywhere but in the size."""
    size_at = data.index(b"\xff\xc0") + 5
    scan = data.index(b"\xff\xda")
    changed = bytearray(data)
    kind = chance.choice(("cut", "flips", "lost", "more", "marker", "head"))
    if kind == "cut":
        del changed[chance.randrange(scan, len(changed)) :]
    elif kind == "flips":
        for _ in range(chance.choice((1, 3, 20))):
            changed[chance.randrange(scan, len(changed))] = chance.choice((0, 255, chance.randrange(256)))
    elif kind == "lost":
        at = chance.randrange(scan, len(changed))
        del changed[at : at + chance.choice((1, 2, 100))]
    elif kind == "more":
        at = chance.choice((2, chance.randrange(scan, len(changed))))
        changed[at:at] = chance.randbytes(chance.choice((1, 2, 50)))
    elif kind == "marker":
        at = chance.randrange(scan + 14, len(changed))
        changed[at:at] = bytes((255, chance.choice((0xD0, 0xD3, 0xD7, 0xD9, 0xC4, 0xDA, 0xD8, 1, 0xFE))))
    else:
        at = chance.randrange(2, scan + 14)
        if at not in range(size_at, size_at + 4):
            changed[at] = chance.randrange(256)
    return bytes(changed) + b"\xff\xd9" * chance.choice((0, 0, 1))


@pytest.mark.parametrize("name", SOURCES)
def test_an_altered_jpeg_is_read_as_libgd_reads_it(name: str, libgd: ctypes.CDLL) -> None:
    chance = random.Random(name)
    read = 0
    for _ in range(150):
        data = altered(chance, SOURCES[name])
        expected, got = theirs(libgd, data), ours(data)
        if expected is None:
            continue
        assert got is not None, data.hex()
        if got.shape == expected.shape:
            assert (got == expected).all(), data.hex()
            read += 1
    assert read > 60
