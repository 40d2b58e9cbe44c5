"""Keeps the libraries below Pillow from writing warnings about files to stderr.

Used by `iqdb_core.signature.decode`, once.
"""

from __future__ import annotations

import ctypes
import warnings

from PIL import _imaging


def be_quiet() -> None:
    """Silence libtiff and Pillow's warnings; anything important is raised as an exception."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        handler = getattr(library, name, None)  # a Pillow built without libtiff has none
        if handler is not None:
            handler.argtypes = (ctypes.c_void_p,)
            handler(None)
