"""Which raw rows are signatures? Turns rows of the database into checked columns; runs no SQL.

Whatever another program or a broken disk left in `images` ends here: past this file every position is
within +-1..16383 and every average finite, which the index's compiled loops rely on. Called by all that reads
rows of `images`.
"""

from __future__ import annotations

import logging
import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from iqdb_core.codec import positions_are_valid
from iqdb_core.model import CHANNELS, KEPT, PLANE, POSITION_BYTES, ChangeBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from iqdb_core.model import Signature

_log = logging.getLogger(__name__)

NO_POSITIONS: Final = bytes(POSITION_BYTES)
"""The positions in a batch of an image that is not there."""

# Kept in every store, so never to be changed: the multiples of 2**64 divided by the golden ratio, made odd.
_WEIGHTS: Final = np.array(
    [(0x9E3779B97F4A7C15 * (word + 1) | 1) % 2**64 for word in range(CHANNELS + POSITION_BYTES // 8)],
    np.uint64,
)

RawImage = tuple[Any, Any, Any, Any]
"""avglf1, avglf2, avglf3, sig, of whatever type the database holds."""


def digests(averages: NDArray[np.float64], positions: NDArray[np.int16]) -> list[int]:
    """Return `digest_array` as numbers of Python."""
    found: list[int] = digest_array(averages, positions).tolist()
    return found


def digest_array(averages: NDArray[np.float64], positions: NDArray[np.int16]) -> NDArray[np.uint64]:
    """Return 32 bits for each of n rows, by which a change of the row by another program is recognised.

    The upper half of a sum of the row's 33 words, each times an odd constant: any change of one word alters
    the sum. Not secure against somebody who forges rows; he could write to the feed as well.
    """
    words = np.ascontiguousarray(averages).view("<u8") @ _WEIGHTS[:CHANNELS]
    words += positions.reshape(len(positions), CHANNELS * KEPT).view("<u8") @ _WEIGHTS[CHANNELS:]
    upper: NDArray[np.uint64] = words >> np.uint64(32)
    return upper


def is_signature(row: RawImage) -> bool:
    """Tell whether one raw row is a signature: three finite numbers and 240 bytes of positions +-1..16383."""
    *averages, blob = row
    if not isinstance(blob, bytes) or len(blob) != POSITION_BYTES:
        return False
    if not all(isinstance(value, float) and math.isfinite(value) for value in averages):
        return False
    return positions_are_valid(np.frombuffer(blob, dtype="<i2"))


def are_signatures(rows: Sequence[RawImage]) -> list[bool]:
    """Tell for each row whether it is a signature; fast when all are."""
    if rows and stack_checked(list(zip(*rows, strict=True))) is not None:
        return [True] * len(rows)
    return [is_signature(row) for row in rows]


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
    seq_column, id_column, *image_columns = zip(*rows, strict=True)
    seqs = np.fromiter(seq_column, np.int64, len(rows))
    image_ids = np.fromiter(id_column, np.int64, len(rows))
    present = rows
    if None in image_columns[3]:
        present = [row for row in rows if row[5] is not None]
        image_columns = list(zip(*present, strict=True))[2:]
    stacked = stack_checked(image_columns) if present else None
    if stacked is not None and len(present) == len(rows):
        is_live = np.ones(len(rows), dtype=np.bool_)
        return ChangeBatch(seqs, image_ids, is_live, *stacked)
    if stacked is None:
        present = [row for row in present if is_signature(row[2:])]
    live_seqs = {row[0] for row in present}
    report_unreadable(row[1] for row in rows if row[5] is not None and row[0] not in live_seqs)
    is_live = np.array([row[0] in live_seqs for row in rows], dtype=np.bool_)
    averages, positions = absent_columns(len(rows))
    if present:
        averages[is_live], positions[is_live] = stacked or stack(list(zip(*present, strict=True))[2:])
    return ChangeBatch(seqs, image_ids, is_live, averages, positions)


def report_unreadable(post_ids: Iterable[int]) -> None:
    """Log that rows the feed calls live are no signatures."""
    for post_id in post_ids:
        _log.warning(
            "the row of post %s in table images is no signature; it is treated as absent",
            post_id,
            extra={"action": "unreadable_row", "post_id": post_id},
        )


def without_invalid(batch: ChangeBatch) -> ChangeBatch:
    """Return the batch, with live rows that are no signatures made absent.

    For rows whose blobs are known to have the right length.
    """
    live = batch.is_live
    which = slice(None) if live.all() else live
    if positions_are_valid(batch.positions[which]) and np.isfinite(batch.averages[which]).all():
        return batch
    magnitudes = np.abs(batch.positions).view(np.uint16).reshape(len(batch), -1)
    valid = ((magnitudes >= 1) & (magnitudes < PLANE)).all(axis=1) & np.isfinite(batch.averages).all(axis=1)
    report_unreadable(batch.image_ids[live & ~valid].tolist())
    is_live = live & valid
    return ChangeBatch(
        batch.seqs,
        batch.image_ids,
        is_live,
        np.where(is_live[:, None], batch.averages, 0.0),
        np.where(is_live[:, None, None], batch.positions, np.int16(0)),
    )


def stack_checked(
    image_columns: Sequence[tuple[Any, ...]],
) -> tuple[NDArray[np.float64], NDArray[np.int16]] | None:
    """Stack columns into arrays; None unless every row is a signature."""
    blobs = image_columns[3]
    if set(map(type, blobs)) != {bytes} or set(map(len, blobs)) != {POSITION_BYTES}:
        return None
    if any(set(map(type, column)) != {float} for column in image_columns[:3]):
        return None
    averages, positions = stack(image_columns)
    if not positions_are_valid(positions) or not np.isfinite(averages).all():
        return None
    return averages, positions


def stack(image_columns: Sequence[tuple[Any, ...]]) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Stack the columns avglf1, avglf2, avglf3, sig of n signatures: (n, 3) float64 and (n, 3, 40) int16."""
    *average_columns, blobs = image_columns
    averages = np.empty((len(blobs), CHANNELS), np.float64)
    for channel, values in enumerate(average_columns):
        averages[:, channel] = np.fromiter(values, np.float64, len(blobs))
    return averages, np.frombuffer(b"".join(blobs), dtype="<i2").reshape(-1, CHANNELS, KEPT)


def signature_columns(signatures: Sequence[Signature]) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return n valid signatures as (n, 3) float64 and (n, 3, 40) int16, as databases give them back."""
    flat = chain.from_iterable([signature.averages for signature in signatures])
    averages = np.fromiter(flat, np.float64, CHANNELS * len(signatures)).reshape(-1, CHANNELS)
    # SQLite cannot hold -0.0; adding 0.0 makes it 0.0, so that both databases answer alike.
    averages += 0.0
    positions = b"".join([signature.positions for signature in signatures])
    return averages, np.frombuffer(positions, dtype="<i2").reshape(-1, CHANNELS, KEPT)


def absent_columns(n_rows: int) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return what stands in a batch for images that are not there."""
    return np.zeros((n_rows, CHANNELS), np.float64), np.zeros((n_rows, CHANNELS, KEPT), np.int16)


def empty_batch() -> ChangeBatch:
    """Return a batch of no changes."""
    return ChangeBatch(
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.bool_),
        np.empty((0, CHANNELS), np.float64),
        np.empty((0, CHANNELS, KEPT), np.int16),
    )


def join_batches(batches: Sequence[ChangeBatch]) -> ChangeBatch:
    """Join consecutive batches of one snapshot into one."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return empty_batch()
    return ChangeBatch(
        np.concatenate([batch.seqs for batch in batches]),
        np.concatenate([batch.image_ids for batch in batches]),
        np.concatenate([batch.is_live for batch in batches]),
        np.concatenate([batch.averages for batch in batches]),
        np.concatenate([batch.positions for batch in batches]),
    )
