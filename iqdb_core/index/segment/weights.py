"""The weights of the score, in whole hundredths.

Weights of shared positions and of differences of averages, for pictures and for painted queries. Knows no
image and no index. Used by the kernels and when queries are prepared.

References
----------
Jacobs, Finkelstein, Salesin, "Fast Multiresolution Image Querying", SIGGRAPH 1995, section 4, with the
constants of danbooru/iqdb (score = 100 * (shared - penalty) / divisor).
"""

from __future__ import annotations

from typing import Final

BINS: Final = 6
"""The bin of a position is min(max(row, column), 5); only the average is in bin 0."""

WEIGHTS: Final = (
    (500, 83, 101, 52, 47, 30),
    (1921, 126, 44, 53, 28, 14),
    (3437, 36, 45, 14, 18, 27),
)
"""Hundredths, by channel (Y, I, Q) and bin. Bin 0 weighs the difference of averages."""

SKETCH_WEIGHTS: Final = (
    (404, 78, 46, 42, 41, 32),
    (1514, 92, 53, 26, 14, 7),
    (2262, 40, 63, 25, 15, 38),
)
"""The same for painted queries, from the paper: in a sketch, colours and large shapes are less exact."""

AVERAGE_WEIGHTS: Final = tuple(float(row[0]) for row in WEIGHTS)
"""Hundredths per unit of difference of the Y, I and Q averages of a picture."""
