"""Who comes first where nothing is likely: the whole picture's clear best by score.

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
"""Below this likelihood parts, turns and even the evidence of the whole picture prove little."""
LEAD: Final = 3.0
"""So many points of score ahead of the next is clear."""


def with_leader(
    logits: NDArray[np.float64], scores: NDArray[np.float64], own: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return log odds, with those of a clear best by score made the highest where all are hopeless.

    Parameters
    ----------
    logits, scores : (n,) float64 ndarray
        Of matches.
    own : (m,) int64 ndarray
        Places of those of the whole picture as it is, each of another image.

    Returns
    -------
    (n,) float64 ndarray
        The same where something is likely enough, or no score of `own` is `LEAD` ahead of the next.
    """
    if len(own) < 2 or likelihoods(most := logits.max()) >= HOPELESS:
        return logits
    first, second = own[np.argsort(-scores[own], kind="stable")[:2]]
    if scores[first] - scores[second] < LEAD:
        return logits
    raised = logits.copy()
    raised[first] = np.nextafter(most, np.inf)
    return raised
