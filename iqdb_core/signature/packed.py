"""Where in memory an image's pixels are, four bytes each, without copying them.

Lends Pillow's own memory to the kernels through the Arrow C data interface. Knows no file format. Called by
`iqdb_core.signature.decode` only.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PACKED_MODES: Final = frozenset({"RGB", "RGBX", "RGBA"})
"""Modes that Pillow keeps as red, green, blue and a fourth byte."""


class _ArrowArray(ctypes.Structure):
    """`struct ArrowArray` of the Arrow C data interface, a stable ABI."""


_ArrowArray._fields_ = (
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
)

_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def packed(image: Image.Image) -> NDArray[np.uint32]:
    """Return a loaded image's pixels.

    Parameters
    ----------
    image : Image
        In one of `PACKED_MODES`.

    Returns
    -------
    (height, width) uint32 ndarray, C-contiguous, read-only
        Red in the low byte, then green, blue, and alpha or nothing. **Valid only as long as the image**,
        whose memory it usually is; a copy where Pillow keeps the image in several blocks (beyond 16 MB).
    """
    height, width = image.height, image.width
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:
        raw = image.tobytes("raw", image.mode if image.mode == "RGBA" else "RGBX")
        return np.frombuffer(raw, "<u4").reshape(height, width)
    outer = _ArrowArray.from_address(_capsule_pointer(capsule, b"arrow_array"))
    inner = outer.children[0].contents
    memory = (ctypes.c_ubyte * (height * width * 4)).from_address(inner.buffers[1])
    pixels: NDArray[np.uint32] = np.frombuffer(memoryview(memory).toreadonly(), "<u4")
    return pixels.reshape(height, width)
