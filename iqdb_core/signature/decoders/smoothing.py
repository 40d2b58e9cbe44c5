"""Smooths an incomplete progressive JPEG like IQDB's decoder.

While a block's finer coefficients are missing, libjpeg estimates them from the averages of the blocks around
it, two in each direction (the idea is in ITU-T T.81, K.8). IQDB links libjpeg-turbo 2.1, which in some places
uses the nearest row instead of the second-nearest: above the first two rows of blocks of the second row of
MCUs, and below the last two of the last row of MCUs but one. Versions since 3 do not. But if the nearer row
is copied over the farther one in the file, they show these rows as 2.1 does. So such files are made and
decoded, and the rows are taken from there. Called by `jpeg`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PIL import Image

from iqdb_core.signature.decoders.dc_layout import BLOCK, Frame, NotRewritten
from iqdb_core.signature.decoders.dc_scans import frame_of, with_copied_rows

_APART: Final = 4
"""Rows of MCUs between two changes, so that neither affects the other."""


def smooth_edges(image: Image.Image, data: bytes, decoded: Callable[[bytes, int], Image.Image]) -> None:
    """Replace the rows of a picture that IQDB smooths differently.

    Parameters
    ----------
    image : Image
        What the decoder shows of `data`. **Changed in place.**
    data : bytes
        A JPEG of which something is missing.
    decoded : callable
        The same decoder, given a file and its height in pixels.

    Notes
    -----
    Not changed: what is not progressive, what has arithmetic codes, averages that are not coded as encoders
    do, and vertical sampling factors of which one is neither 1 nor the largest.
    """
    try:
        frame = frame_of(data)
        if frame is None or frame.down == 1 or frame.mcus[1] == 1:
            return
        if any(part.down not in {1, frame.down} for part in frame.components.values()):
            return
        high = min(part.height for part in frame.components.values() if part.down == frame.down)
        for rows in _together(frame):
            copies = {target: source for near in rows.values() for target, source in near}
            is_grown = max(copies) >= high
            other = decoded(
                with_copied_rows(data, frame, copies, is_grown=is_grown),
                frame.mcus[1] * frame.down * BLOCK if is_grown else image.height,
            )
            for row in rows:
                box = (0, row * BLOCK, image.width, min((row + 1) * BLOCK, image.height))
                if box[1] < box[3]:
                    image.paste(other.crop(box), box)
    except (NotRewritten, OSError):
        return


def _together(frame: Frame) -> list[dict[int, list[tuple[int, int]]]]:
    """Return rows of blocks and for each what is copied where; those of one dict do not interfere."""
    down, mcu_rows = frame.down, frame.mcus[1]
    top = [{down + k: [(down + k - 2, down + k - 1)]} for k in (0, 1)]
    last = down * (mcu_rows - 1) - 1
    bottom = [{last - k: [(last - k + 2, last - k + 1)]} for k in (0, 1)]
    if mcu_rows >= _APART:
        return [top[0] | bottom[0], top[1] | bottom[1]]
    merged: dict[int, list[tuple[int, int]]] = {}
    for rows in (*top, *bottom):
        for row, copies in rows.items():
            merged.setdefault(row, []).extend(copies)
    return [{row: copies} for row, copies in merged.items()]
