"""Encoding and decoding signatures, each in its compiled and its plain form.

Parameters and results are described in `coding`. Called by `disk.signature_rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iqdb_core.forms import two_forms
from iqdb_core.index.row_code.layout import Records
from iqdb_core.index.rows import Signatures

encode: Final[Callable[[Signatures], Records]] = two_forms(
    compiled="iqdb_core.index.row_code.coding:encode", plain="iqdb_core.index.plain.row_code:encode"
)
"""Signatures to records."""

decode: Final[Callable[[Records, NDArray[np.int16]], int]] = two_forms(
    compiled="iqdb_core.index.row_code.coding:decode", plain="iqdb_core.index.plain.row_code:decode"
)
"""Records to positions."""
