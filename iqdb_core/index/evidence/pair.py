"""Two pictures compared, with no index: judged as if they met among many others.

Answers: how likely does a picture show what another one shows, or a part or turn of it? Called by whoever has
both signatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from iqdb_core.index.evidence.copies import odds_of, rows_of
from iqdb_core.index.evidence.likelihood import (
    USUAL_BUCKETS,
    Evidence,
    Population,
    details_of,
    likelihoods,
)
from iqdb_core.index.evidence.sharing import held_by, scores_of, shared_by
from iqdb_core.index.evidence.surroundings import without_surroundings
from iqdb_core.model import BUCKETS, Copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqdb_core.model import QuerySignature, Signature

_STRANGERS: Final = Population(np.zeros(BUCKETS, np.int32), 0)
"""Nothing is known of the others but what is usual."""


def compare(queries: Sequence[QuerySignature], signature: Signature) -> Copy:
    """Return how likely a picture shows what one of several signatures describes.

    Parameters
    ----------
    queries : sequence of QuerySignature
        The signature of the whole picture first, then those of its parts and turns; at least one.
    signature : Signature
        Of the other picture.

    Returns
    -------
    Copy
        Of the signature that fits best; its id is 1. The score is the one of an index that holds what
        pictures usually hold: in an index of one image IQDB's rule gives near 100 to anything.
    """
    own, other = rows_of([one.signature for one in queries]), rows_of([signature])
    held, held_by_other = held_by(own), held_by(other)
    only = np.zeros(len(queries), np.int64)
    shared = shared_by(held, held_by_other, np.arange(len(queries)), only)
    averages = np.repeat(other.averages, len(queries), axis=0)
    scores = scores_of(held, own.averages, USUAL_BUCKETS, shared, averages)
    evidence = Evidence(held, own.averages, _STRANGERS)
    logits = odds_of(queries, held, evidence, shared, averages, scores, _STRANGERS.image_count)
    logits = without_surroundings(queries, held, held_by_other, only, shared, scores, logits)
    best = int(logits.argmax())
    return Copy(
        image_id=1,
        score=float(scores[best]),
        signature=signature,
        likelihood=float(likelihoods(logits[best : best + 1])[0]),
        detail=float(details_of(held_by_other, other.averages, _STRANGERS)[0]),
        part=queries[best].part_shown,
        turn=queries[best].turn,
    )
