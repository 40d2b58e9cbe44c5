"""Counts the live images that hold each bucket.

Buckets that no image holds do not count in the divisor of a score. Never ranks. Updated when changes are
applied, by one thread at a time; queries see `nonempty`, an array that is replaced, never changed in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.segment.arithmetic import count_images
from iqdb_core.index.simd.memory import read_only
from iqdb_core.model import BUCKETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.index.rows import Signatures


class BucketCounts:
    """Counts of live images per bucket.

    Parameters
    ----------
    counts : (98,304,) int32 ndarray or None
        Counts to start from, copied; None starts with zeros.
    """

    def __init__(self, counts: NDArray[np.int32] | None = None) -> None:
        self.counts = np.zeros(BUCKETS, dtype=np.int32) if counts is None else counts.astype(np.int32)
        self.nonempty = self._published()

    def change(
        self,
        added: Signatures,
        removed: list[Signatures],
        added_counts: NDArray[np.int32] | None = None,
    ) -> None:
        """Add new images and subtract dead ones; replace `nonempty` if a bucket became empty or non-empty.

        Parameters
        ----------
        added : Signatures
            The images that became live.
        removed : list of Signatures
            The images that died; each must have been added before.
        added_counts : (98,304,) int32 ndarray or None
            How many of `added` hold each bucket, if already counted.
        """
        if added_counts is None:
            crossed = count_images(self.counts, read_only(added.averages), read_only(added.positions), 1)
        else:
            crossed = int(np.count_nonzero((self.counts == 0) & (added_counts > 0)))
            self.counts += added_counts
        for averages, positions in removed:
            crossed += count_images(self.counts, read_only(averages), read_only(positions), -1)
        if crossed:
            self.nonempty = self._published()

    def _published(self) -> NDArray[np.bool_]:
        nonempty: NDArray[np.bool_] = self.counts > 0
        nonempty.flags.writeable = False
        return nonempty
