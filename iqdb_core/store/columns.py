"""Which raw rows are signatures? Turns rows of the database into checked columns; runs no SQL.

Whatever another program or a broken disk left in `images` ends here: past this file every position is within
1..16383 and every average finite, which the index's compiled loops rely on.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.model import CHANNELS, KEPT, PLANE, POSITION_BYTES, ChangeBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_NO_POSITIONS: Final = bytes(POSITION_BYTES)

RawImage = tuple[Any, Any, Any, Any]
"""avglf1, avglf2, avglf3, sig, of whatever type the database holds."""


def positions_are_valid(positions: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Tell for each row of an (n, 3, 40) int16 array whether all its positions are +-1..16383; (n,) bool."""
    flat = positions.reshape(len(positions), CHANNELS * KEPT)
    # abs(-32768) stays -32768 in int16; seen as unsigned and less one it is out of range like 0 is.
    magnitude_less_one = np.abs(flat).view(np.uint16) - np.uint16(1)
    valid: NDArray[np.bool_] = (magnitude_less_one < PLANE - 1).all(axis=1)
    return valid


def is_signature(row: RawImage) -> bool:
    """Tell whether one raw row is a signature: three finite numbers and 240 bytes of positions +-1..16383."""
    *averages, blob = row
    if not isinstance(blob, bytes) or len(blob) != POSITION_BYTES:
        return False
    if not all(isinstance(value, float) and math.isfinite(value) for value in averages):
        return False
    positions = np.frombuffer(blob, dtype="<i2").reshape(1, CHANNELS, KEPT)
    return bool(positions_are_valid(positions)[0])


def to_batch(rows: Sequence[tuple[Any, ...]]) -> ChangeBatch:
    """Turn feed rows into columns.

    Parameters
    ----------
    rows : sequence of (seq, post_id, avglf1, avglf2, avglf3, sig)
        In order of seq. The last four are None for an image that is not there.

    Returns
    -------
    ChangeBatch
        A row that is no signature comes out as not live, with a warning: the feed goes on.
    """
    if not rows:
        return empty_batch()
    seqs, image_ids, *image_columns = zip(*rows, strict=True)
    columns = _columns(image_columns)
    if columns is None:
        checked = [row[2:] if is_signature(row[2:]) else None for row in rows]
        for row, image in zip(rows, checked, strict=True):
            if image is None and row[5] is not None:
                _log.warning(
                    "the row of post %s in table images is no signature; it is treated as absent",
                    row[1],
                    extra={"action": "broken_row_read", "post_id": row[1]},
                )
        is_live = np.array([image is not None for image in checked], dtype=np.bool_)
        columns = _columns(
            list(zip(*(image or (0.0, 0.0, 0.0, _NO_POSITIONS) for image in checked), strict=True)), is_live
        )
        if columns is None:
            raise AssertionError("rows that passed the check one by one fail together")
    else:
        is_live = np.ones(len(rows), dtype=np.bool_)
    averages, positions = columns
    return ChangeBatch(np.array(seqs, np.int64), np.array(image_ids, np.int64), is_live, averages, positions)


def _columns(
    image_columns: list[tuple[Any, ...]], is_live: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int16]] | None:
    """Stack the columns of rows that are all signatures (or those marked in `is_live`), None if one is not."""
    *average_columns, blobs = image_columns
    try:
        joined = b"".join(blobs)
        averages = np.array(average_columns, dtype=np.float64).T
    except (TypeError, ValueError):  # a None or a text among them
        return None
    if len(joined) != len(blobs) * POSITION_BYTES or set(map(len, blobs)) != {POSITION_BYTES}:
        return None
    positions = np.frombuffer(joined, dtype="<i2").reshape(-1, CHANNELS, KEPT)
    live = slice(None) if is_live is None else is_live
    if not (positions_are_valid(positions[live]).all() and np.isfinite(averages[live]).all()):
        return None
    return np.ascontiguousarray(averages), positions


def empty_batch() -> ChangeBatch:
    """Return a batch of no changes."""
    return ChangeBatch(
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.bool_),
        np.empty((0, CHANNELS), np.float64),
        np.empty((0, CHANNELS, KEPT), np.int16),
    )
