"""Decodes a JPEG like IQDB, which uses libgd: as far as the bytes go, the rest grey.

When its bytes run out, libgd gives libjpeg an end marker, and continues as long as libjpeg does. Pillow's
decoder is a later version of the same libjpeg. It is fed in the same way here, and `smoothing` corrects the
difference between the versions. Called by `iqdb_core.signature.decode`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, Self

from PIL import Image

from iqdb_core.signature.container import Still
from iqdb_core.signature.container.jpeg import END
from iqdb_core.signature.decoders.dc_scans import lacks_restarts
from iqdb_core.signature.decoders.smoothing import smooth_edges
from iqdb_core.signature.picture import Loaded

_MODES: Final = {1: "L", 3: "RGB", 4: "CMYK"}
_ENDLESS: Final = END * 40_000
"""Longer than any segment: inside a segment libjpeg reads end markers as content."""
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Without the fill bytes before it: a pattern with any number of them would take quadratic time."""
_FILL: Final = b"\xff"
_GREY: Final = 128
_ONES: Final = b"\xff\0" * 8
_ZEROS: Final = bytes(8)
"""libjpeg consumes up to eight bytes beyond those it needs. All ones are no code of any table; it also uses
zeros for missing data."""


def load(still: Still) -> Loaded:
    """Decode a JPEG; raises Pillow's errors."""
    image, is_damaged = _decoded(still)
    if not is_damaged and still.scans == 1 and _ends_grey(image):
        is_damaged = _is_short(still)
    if is_damaged:
        smooth_edges(image, still.data, lambda data, height: _of_height(still, data, height))
    if image.mode == "CMYK":
        image.info["inverted"] = still.is_inverted
    return Loaded(image, is_damaged)


def _decoded(still: Still) -> tuple[Image.Image, bool]:
    """Return the picture, and whether data ended too early or an end marker is missing."""
    if still.scans_end and not still.is_cut and not lacks_restarts(still.data, still.pixels_begin):
        with _Decoder(still) as decoder:
            if decoder.ends_at(still.scans_end):
                is_hungry = decoder.finish(still.data[still.scans_end :])
                return decoder.image, is_hungry
        # Data of the last scan is missing. The decoder has consumed too much, so start again.
    with _Decoder(still) as decoder:
        # At once if the end is known to be missing: with arithmetic codes the decoder cannot wait for it.
        is_hungry = decoder.finish(still.data + _ENDLESS if still.is_cut else still.data)
        return decoder.image, is_hungry or still.is_cut or still.scans_end > 0


def _of_height(still: Still, data: bytes, height: int) -> Image.Image:
    """Decode a changed copy of a file."""
    assert still.canvas is not None  # noqa: S101 - the container always knows
    changed = replace(still, data=data, canvas=(still.canvas[0], height))
    with _Decoder(changed) as decoder:
        decoder.finish(data)
        return decoder.image


class _Decoder:
    """Pillow's decoder with a header of our own reading, fed piece by piece.

    Parameters
    ----------
    still : Still
        The file as described by its container.
    """

    def __init__(self, still: Still) -> None:
        assert still.canvas is not None  # noqa: S101 - the container always knows
        mode = _MODES[still.channels]
        self.image = Image.new(mode, still.canvas)
        self.is_done = False
        self._data = still.data
        self._left = b""
        self._decoder = Image._getdecoder(mode, "jpeg", (mode, ""))  # noqa: SLF001 - ImageFile does the same
        self._decoder.setimage(self.image.im, (0, 0, *still.canvas))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.cleanup()

    def feed(self, data: bytes) -> int:
        """Decode as far as possible; return how many bytes are still unused.

        Raises
        ------
        OSError
            This is no JPEG, or one whose tables make no sense.
        """
        data = self._left + data
        taken, error = self._decoder.decode(data)
        if error < 0:
            raise OSError("broken data")
        self.is_done = taken < 0
        self._left = b"" if self.is_done else data[taken:]
        return len(self._left)

    def ends_at(self, end: int) -> bool:
        """Decode up to the end of a scan; return whether the scan is complete.

        A decoder with a complete scan skips bytes one by one until the next marker; one that lacks data waits
        for more than one byte at a time. Missing bytes that zeros can replace go unnoticed.
        """
        return self.feed(self._data[:end] + _ZEROS) == 0 and all(
            self.feed(_ZEROS[:1]) == 0 for _ in range(len(_ZEROS) + 1)
        )

    def finish(self, data: bytes) -> bool:
        """Decode to the end; return whether end markers had to be added."""
        self.feed(data)
        is_hungry = not self.is_done
        while not self.is_done:
            self.feed(_ENDLESS)
        return is_hungry


def _ends_grey(image: Image.Image) -> bool:
    """Return whether the last pixel is libjpeg's grey for missing data; some good pictures end like that."""
    pixel = image.getpixel((image.width - 1, image.height - 1))
    return pixel == _GREY or (isinstance(pixel, tuple) and pixel[-1] == _GREY)


def _is_short(still: Still) -> bool:
    """Return whether the only scan ends before the picture, by decoding it without any end marker."""
    marker = _MARKER.search(still.data, still.pixels_begin)
    if marker is None:
        return True
    with _Decoder(still) as decoder:
        return decoder.finish(still.data[: marker.start()].rstrip(_FILL) + _ONES)
