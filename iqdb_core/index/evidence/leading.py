"""Which match comes first where nothing is likely: the whole picture's best by score, if it leads clearly.

Of a badly cropped or rotated picture little is left but its coarse shape, of which the score sees most. Pure
arithmetic. Called by `copies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.evidence.likelihood import likelihoods

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOPELESS: Final = 0.1
"""Below this likelihood even the evidence of the whole picture proves little."""
LEAD: Final = 3.0
"""The best leads clearly if it is so many points of score ahead of the next."""


def with_leader(logits: NDArray[np.float64], scores: NDArray[np.float64], n_best: int) -> NDArray[np.float64]:
    """Return log odds, with those of a clear best by score made the highest where all are hopeless.

    Parameters
    ----------
    logits, scores : (n,) float64 ndarray
        Of matches. The first are the whole picture's best by score, in descending order.
    n_best : int
        How many of the first these are.

    Returns
    -------
    (n,) float64 ndarray
        The same where something is likely enough, or the best score is not `LEAD` ahead of the next.
    """
    if n_best < 2 or scores[0] - scores[1] < LEAD or likelihoods(most := logits.max()) >= HOPELESS:
        return logits
    raised = logits.copy()
    raised[0] = np.nextafter(most, np.inf)
    return raised
