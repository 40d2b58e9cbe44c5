"""The one mutable part of the index: a few rows that every query reads one by one.

It holds the images that arrived since the last seal. Rows are only appended, and a view ends at the last row
that existed when it was made. The array that says which rows are alive is replaced, never changed. So queries
read a view without a lock while an update appends behind its end. Called by `ImageIndex`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.index.rows import HeadRows, Rows, Signatures
from iqdb_core.model import CHANNELS, KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iqdb_core.model import Signature


@dataclass(frozen=True, slots=True)
class Head:
    """A view of the head; the rows behind `n_rows` belong to later views.

    Parameters
    ----------
    image_ids : (capacity,) int64 ndarray
        In the order of arrival; an id may occur again after its earlier row died.
    averages : (capacity, 3) float64 ndarray
    positions : (capacity, 3, 40) int16 ndarray
    alive : (capacity,) bool ndarray
        False behind `n_rows`. Never changed in place.
    n_rows : int
        Rows that this view has.
    """

    image_ids: NDArray[np.int64]
    averages: NDArray[np.float64]
    positions: NDArray[np.int16]
    alive: NDArray[np.bool_]
    n_rows: int

    @classmethod
    def create(cls, capacity: int) -> Head:
        """Return an empty head with room for `capacity` rows."""
        return cls(
            np.zeros(capacity, dtype=np.int64),
            np.zeros((capacity, CHANNELS)),
            np.zeros((capacity, CHANNELS, KEPT), dtype=np.int16),
            np.zeros(capacity, dtype=np.bool_),
            0,
        )

    @property
    def n_free(self) -> int:
        """Rows that can still be appended."""
        return len(self.image_ids) - self.n_rows

    @property
    def n_alive(self) -> int:
        """Live images of this view."""
        return int(np.count_nonzero(self.alive))

    @property
    def nbytes(self) -> int:
        """Memory of the head, for its whole capacity."""
        return self.image_ids.nbytes + self.averages.nbytes + self.positions.nbytes + self.alive.nbytes

    def find(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the live rows, ascending, whose ids are among the strictly ascending `image_ids`."""
        if self.n_rows == 0 or len(image_ids) == 0:
            return np.empty(0, dtype=np.int64)
        held = self.image_ids[: self.n_rows]
        if len(image_ids) == 1:  # as in every single add; costs a fifth of the code below
            return np.flatnonzero((held == image_ids[0]) & self.alive[: self.n_rows])
        nearest = np.minimum(np.searchsorted(image_ids, held), len(image_ids) - 1)
        return np.flatnonzero((image_ids[nearest] == held) & self.alive[: self.n_rows])

    def signature(self, row: int) -> Signature:
        """Return the signature of one row."""
        return Signatures(self.averages, self.positions).signature(row)

    def without(self, rows: NDArray[np.int64]) -> Head:
        """Return a view in which the rows at these places are dead."""
        if len(rows) == 0:
            return self
        alive = self.alive.copy()
        alive[rows] = False
        return Head(self.image_ids, self.averages, self.positions, alive, self.n_rows)

    def with_rows(self, rows: Rows) -> Head:
        """Return a view with rows appended, at most `n_free`, in any order.

        Only the newest view may be appended to: older ones share its memory.
        """
        end = self.n_rows + len(rows)
        self.image_ids[self.n_rows : end] = rows.image_ids
        self.averages[self.n_rows : end] = rows.averages
        self.positions[self.n_rows : end] = rows.positions
        alive = self.alive.copy()
        alive[self.n_rows : end] = True
        return Head(self.image_ids, self.averages, self.positions, alive, end)

    def live_rows(self) -> Rows:
        """Return copies of the live rows, in the order of arrival."""
        return Rows(self.image_ids, self.averages, self.positions)[np.flatnonzero(self.alive)]

    def rows_to_scan(self) -> HeadRows:
        """Return the rows of this view as the ranking reads them."""
        n = self.n_rows
        return HeadRows(self.image_ids[:n], self.averages[:n], self.positions[:n], self.alive[:n])
