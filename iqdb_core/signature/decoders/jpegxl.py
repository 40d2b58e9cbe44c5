"""A JPEG XL, by libjxl.

A JPEG XL that was made from a JPEG without loss gives that JPEG back to the bit, so it has the same hash.
Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from iqdb_core.errors import CorruptImage, UnsupportedFormat
from iqdb_core.signature.container import Still
from iqdb_core.signature.container.jpeg import MAGIC
from iqdb_core.signature.picture import Loaded

_MODES: Final = frozenset({"L", "LA", "RGB", "RGBA", "I;16"})


def load(still: Still) -> Loaded | bytes:
    """Decode the first frame, upright, or return the JPEG that the file was made from.

    The caller has checked the size in the header against the limits. Raises libjxl's errors.
    """
    # Costs start-up time, and most pictures are of another format.
    from pillow_jxl import Decoder  # noqa: PLC0415

    is_jpeg, info, data, *_ = Decoder(num_threads=0)(still.data)
    if is_jpeg:
        if not data.startswith(MAGIC):
            raise CorruptImage("the JPEG inside the JPEG XL is not one")
        return bytes(data)
    width, height = still.canvas or (0, 0)
    if {info.width, info.height} != {width, height}:
        raise CorruptImage("the JPEG XL contradicts itself about its size")
    if info.mode not in _MODES:
        raise UnsupportedFormat(f"a JPEG XL with {info.mode} pixels is not supported")
    return Loaded(Image.frombytes(info.mode, (info.width, info.height), data))
