"""The heavy arithmetic of a signature, each function in its compiled and its plain form.

Flattens, shrinks, decomposes and selects. Parameters and results are described at the compiled forms. Called
by `iqdb_core.signature` and by `bands`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms

_PLAIN: Final = "iqdb_core.signature.plain"


class Shrinking(Protocol):
    """A picture on its way to 128 x 128; see `resample.Shrinking`."""

    def add(self, band: NDArray[np.uint32]) -> None:
        """Take in the next rows."""

    def small(self) -> NDArray[np.uint8]:
        """Return the small picture."""


on_white: Final[Callable[[NDArray[np.uint32], NDArray[np.uint32]], None]] = two_forms(
    compiled="iqdb_core.signature.flatten:on_white", plain=f"{_PLAIN}:on_white"
)
look_up: Final[Callable[[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint32]], None]] = two_forms(
    compiled="iqdb_core.signature.flatten:look_up", plain=f"{_PLAIN}:look_up"
)
create_shrinking: Final[Callable[[int, int], Shrinking]] = two_forms(
    compiled="iqdb_core.signature.resample:Shrinking", plain=f"{_PLAIN}:Shrinking"
)
coefficients: Final[Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = two_forms(
    compiled="iqdb_core.signature.haar:coefficients", plain=f"{_PLAIN}:coefficients"
)
signed_positions: Final[Callable[[NDArray[np.float64]], NDArray[np.int16]]] = two_forms(
    compiled="iqdb_core.signature.select:signed_positions", plain=f"{_PLAIN}:signed_positions"
)
