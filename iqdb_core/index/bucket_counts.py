"""How many live images hold each bucket, and which buckets are empty everywhere: the divisor of every score.

Answers: is this bucket empty in the whole index? Never ranks. Changed by the one thread that applies changes;
queries see `nonempty`, an array that is replaced and never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from iqdb_core.index.memory import read_only
from iqdb_core.model import BUCKETS, CHANNELS, GREY_LIMIT, KEPT, PLANE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BucketCounts:
    """Counts of live images per bucket.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray or None
        Counts to start from, copied; None starts with none.
    """

    def __init__(self, counts: NDArray[np.int32] | None = None) -> None:
        self.counts = np.zeros(BUCKETS, dtype=np.int32) if counts is None else counts.astype(np.int32)
        self.nonempty = self._published()

    def change(
        self,
        added: tuple[NDArray[np.float64], NDArray[np.int16]],
        removed: list[tuple[NDArray[np.float64], NDArray[np.int16]]],
    ) -> None:
        """Count new images in and dead ones out; replace `nonempty` if some bucket filled or emptied.

        Parameters
        ----------
        added : (n, 3) float64 ndarray, (n, 3, 40) int16 ndarray
            Averages and positions of the images that became live.
        removed : list of the same
            Those of the images that died; each must have been added before.
        """
        crossed = count_images(self.counts, read_only(added[0]), read_only(added[1]), 1)
        for averages, positions in removed:
            crossed += count_images(self.counts, read_only(averages), read_only(positions), -1)
        if crossed:
            self.nonempty = self._published()

    def _published(self) -> NDArray[np.bool_]:
        nonempty: NDArray[np.bool_] = self.counts > 0
        nonempty.flags.writeable = False
        return nonempty


@njit(nogil=True, cache=True)
def count_images(
    counts: NDArray[np.int32], averages: NDArray[np.float64], positions: NDArray[np.int16], step: int
) -> int:
    """Add `step` to the count of every bucket that each image holds.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray
        **Changed in place.**
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
        Of a grey image only the Y channel counts; a position that occurs twice in a channel counts once.
    step : int
        1 or -1.

    Returns
    -------
    int
        How often a count left or reached zero.

    Notes
    -----
    Compiled; releases the GIL. Positions are trusted to be 1..16383 in magnitude: `codec` has seen to it.
    """
    crossed = 0
    for image in range(positions.shape[0]):
        is_grey = abs(averages[image, 1]) + abs(averages[image, 2]) < GREY_LIMIT
        for channel in range(1 if is_grey else CHANNELS):
            signed = positions[image, channel]
            is_ascending = _is_ascending(signed)
            for slot in range(KEPT):
                # Signatures computed here ascend, so that a search for repeats is rarely needed.
                if not is_ascending and _is_repeat(signed, slot):
                    continue
                is_negative = 1 if signed[slot] < 0 else 0
                bucket = (channel * 2 + is_negative) * PLANE + abs(np.int64(signed[slot]))
                before = counts[bucket]
                counts[bucket] = before + step
                if before == 0 or before + step == 0:
                    crossed += 1
    return crossed


@njit(nogil=True, cache=True)
def _is_ascending(signed: NDArray[np.int16]) -> bool:
    """Return whether each value is above the one before."""
    is_ascending = True
    for slot in range(1, len(signed)):
        is_ascending &= signed[slot] > signed[slot - 1]
    return is_ascending


@njit(nogil=True, cache=True)
def _is_repeat(signed: NDArray[np.int16], slot: int) -> bool:
    """Return whether the value at `slot` occurs before it."""
    for earlier in range(slot):  # noqa: SIM110 - numba compiles no generator expression here
        if signed[earlier] == signed[slot]:
            return True
    return False
