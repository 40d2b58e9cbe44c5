"""A JPEG as IQDB reads it, which reads as libgd does: as far as the bytes go, the rest grey.

libgd gives libjpeg an end marker whenever its bytes run out, and goes on as long as libjpeg does. Pillow's
decoder is the same libjpeg; here it is fed in the same way. Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

import io
import re
from typing import Final

from PIL import ImageFile

from iqdb_core.signature.container import Still
from iqdb_core.signature.container.jpeg import END
from iqdb_core.signature.picture import Loaded

_MODES: Final = {1: "L", 3: "RGB", 4: "CMYK"}
_ENDLESS: Final = END * 40_000
"""More than the longest segment: libjpeg reads end markers as content, too, while it is inside of one."""
_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_GREY: Final = 128
_LOOK_AHEAD: Final = b"\xff\0" * 8
"""libjpeg takes in up to eight bytes beyond those it needs. All ones are no code of any table."""


def load(still: Still) -> Loaded:
    """Decode a JPEG; Pillow's errors come through."""
    image = _Jpeg(still.data, still)
    image.load()
    if image.mode == "CMYK":
        image.info["inverted"] = still.is_inverted
    is_damaged = still.is_cut or image.is_hungry
    if not is_damaged and still.scans == 1 and _ends_grey(image):
        is_damaged = _is_short(still)
    return Loaded(image, is_damaged)


class _Jpeg(ImageFile.ImageFile):
    """Pillow's decoder with a header of our own reading, and end markers after the last byte.

    Parameters
    ----------
    data : bytes
        What to decode.
    still : Still
        What the container says of it.
    """

    format = "JPEG"
    format_description = "JPEG"

    def __init__(self, data: bytes, still: Still) -> None:
        self._still = still
        self.is_hungry = False
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        assert self._still.canvas is not None  # noqa: S101 - the container always knows
        self._size = self._still.canvas
        self._mode = _MODES[self._still.channels]
        self.tile = [ImageFile._Tile("jpeg", (0, 0, *self._size), 0, (self._mode, ""))]  # noqa: SLF001 - documented
        # All at once: with pieces the decoder goes over some of them twice.
        self.decodermaxblock = len(self._still.data) + len(_ENDLESS)

    def load_read(self, read_bytes: int) -> bytes:
        """Return the file, then end markers without end."""
        assert self.fp is not None  # noqa: S101 - open until everything is decoded
        data = self.fp.read(read_bytes)
        if data:
            return data
        self.is_hungry = True
        return _ENDLESS


def _ends_grey(image: _Jpeg) -> bool:
    """Whether the last pixel is what libjpeg puts where nothing is known; a few good pictures end so, too."""
    pixel = image.getpixel((image.width - 1, image.height - 1))
    return pixel == _GREY or (isinstance(pixel, tuple) and pixel[-1] == _GREY)


def _is_short(still: Still) -> bool:
    """Whether the one scan ends before the picture does, by decoding it without any end marker."""
    marker = _MARKER.search(still.data, still.pixels_begin)
    if marker is None:
        return True
    image = _Jpeg(still.data[: marker.start()] + _LOOK_AHEAD, still)
    image.load()
    return image.is_hungry
