"""A HEIC picture, as phones write them, by libheif.

Nothing is registered with Pillow, whose list of formats belongs to the whole process. Called by
`iqdb_core.signature.decode`.
"""

from __future__ import annotations

import io

from iqdb_core.errors import ImageTooLarge
from iqdb_core.signature.container import Still
from iqdb_core.signature.picture import DecodeLimits, Loaded


def load(still: Still, limits: DecodeLimits) -> Loaded:
    """Decode the primary picture, upright according to its properties; raises libheif's errors."""
    from pillow_heif import HeifFile  # noqa: PLC0415 - costs start-up time, and most pictures are of another format

    file = HeifFile(io.BytesIO(still.data))  # type: ignore[no-untyped-call]
    width, height = file.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(width * height, limits.max_pixels)
    return Loaded(file.to_pillow())
