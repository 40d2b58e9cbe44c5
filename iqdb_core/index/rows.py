"""Many images as columns: the form in which the rooms of the index exchange them.

Selects and orders images. Knows no segment and no file. `ChangeBatch` of `model` is the same with the fields
of the feed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from iqdb_core.codec import SIGNATURE_BYTES
from iqdb_core.index.simd.memory import WORD_BYTES, allocate, read_only
from iqdb_core.model import CHANNELS, KEPT, Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray


HEAD_SEGMENT: Final = -1
"""The segment number of matches in the head; their document is the row."""
LARGEST_AVERAGE: Final = float(np.finfo(np.float32).max)
"""The largest average that a segment can keep, as float32."""


def stored_averages(averages: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return averages as a segment keeps them: float32, and finite."""
    return np.clip(averages, -LARGEST_AVERAGE, LARGEST_AVERAGE).astype(np.float32)


class Signatures(NamedTuple):
    """Signatures of images, without their ids.

    Parameters
    ----------
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
    """

    averages: NDArray[np.float64]
    positions: NDArray[np.int16]

    @classmethod
    def allocated(cls, n_rows: int) -> Signatures:
        """Return zeroed signatures in a memory mapping of their own."""
        words = allocate(n_rows * SIGNATURE_BYTES // WORD_BYTES)
        averages = words[: n_rows * CHANNELS].view(np.float64).reshape(n_rows, CHANNELS)
        positions = words[n_rows * CHANNELS :].view(np.int16).reshape(n_rows, CHANNELS, KEPT)
        return cls(averages, positions)

    def signature(self, row: int) -> Signature:
        """Return one row as a Signature."""
        y, i, q = self.averages[row].tolist()
        return Signature((y, i, q), self.positions[row].astype("<i2").tobytes())

    def each(self) -> list[Signature]:
        """Return all rows as Signatures."""
        raw = self.positions.astype("<i2", copy=False).tobytes()
        size = CHANNELS * KEPT * 2
        return [
            Signature((y, i, q), raw[row * size : (row + 1) * size])
            for row, (y, i, q) in enumerate(self.averages.tolist())
        ]

    def copy(self) -> Signatures:
        """Return a copy of the signatures."""
        return Signatures(self.averages.copy(), self.positions.copy())


@dataclass(frozen=True, slots=True)
class Rows:
    """Images as columns.

    Parameters
    ----------
    image_ids : (n,) int64 ndarray
        Each id occurs once; most users need them ascending, see `in_order`.
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
    """

    image_ids: NDArray[np.int64]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, which: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        return Rows(self.image_ids[which], self.averages[which], self.positions[which])

    @property
    def signatures(self) -> Signatures:
        """The same rows without their ids."""
        return Signatures(self.averages, self.positions)

    def in_order(self) -> Rows:
        """Return these rows in ascending order of id."""
        return self[np.argsort(self.image_ids, kind="stable")]

    def sorted_with(self, other: Rows) -> Rows:
        """Return these rows and others, which share no id with them, in ascending order of id."""
        if len(other) == 0:
            return self
        return Rows(
            np.concatenate([other.image_ids, self.image_ids]),
            np.concatenate([other.averages, self.averages]),
            np.concatenate([other.positions, self.positions]),
        ).in_order()

    def read_only(self) -> Rows:
        """Return read-only, contiguous views, or copies of what is not contiguous; see `memory.read_only`."""
        return Rows(read_only(self.image_ids), read_only(self.averages), read_only(self.positions))


class HeadRows(NamedTuple):
    """The rows of the head, as the ranking reads them.

    Parameters
    ----------
    image_ids : (n,) int64 ndarray
    averages : (n, 3) float64 ndarray
    positions : (n, 3, 40) int16 ndarray
        1..16383 in magnitude, in any order; one that occurs twice in a channel counts once.
    alive : (n,) bool ndarray
    """

    image_ids: NDArray[np.int64]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]
    alive: NDArray[np.bool_]
