"""Whether a stranger is a crop of a picture after all: looked for with no index. Used by `recall`."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.hiding import piece, rows_of
from iqdb_core.index.evidence.sharing import held_by, scores_of, shared_by
from iqdb_core.index.rows import Signatures
from iqdb_core.model import BUCKETS, Signature

CROP_SCORE: Final = 60.0
"""What the best crop of a picture scores with a crop of it, and not with others: when this was chosen, 24 of
the first kind had 73 to 99, and those of the second at most 51."""
_SIDE: Final = 300
_FIRST_CROPS: Final = 600
_BEST: Final = 6
_ROUNDS: Final = 8
_NEXT_CROPS: Final = 10
_LEAST_SIDE: Final = 0.1


def best_crop_score(picture: Image.Image, of: Signature) -> float:
    """Return the best score of a signature with a crop of a picture, mirrored or not.

    Tries random crops, then eight times others near the best six, nearer each time.
    """
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    return max(_best(each, of) for each in (small, ImageOps.mirror(small)))


def _best(picture: Image.Image, of: Signature) -> float:
    random = np.random.default_rng(0)
    size = random.uniform(0.25, 1, (_FIRST_CROPS, 2))
    corner = random.random((_FIRST_CROPS, 2)) * (1 - size)
    boxes = np.concatenate([corner, corner + size], axis=1)
    scores = _scores(picture, boxes, of)
    spread = 0.08
    for _ in range(_ROUNDS):
        best = np.argsort(-scores, kind="stable")[:_BEST]
        boxes, scores = boxes[best], scores[best]
        near = np.repeat(boxes, _NEXT_CROPS, axis=0)
        near = (near + random.normal(0, spread, near.shape)).clip(0, 1)
        near = near[(near[:, 2:] - near[:, :2]).min(axis=1) > _LEAST_SIDE]
        boxes = np.concatenate([boxes, near])
        scores = np.concatenate([scores, _scores(picture, near, of)])
        spread *= 0.7
    return float(scores.max())


def _scores(picture: Image.Image, boxes: NDArray[np.float64], of: Signature) -> NDArray[np.float64]:
    averages, positions = rows_of([piece(picture, *box) for box in boxes.tolist()])
    asked = Signatures(*rows_of([of]))
    held, n = held_by(asked), len(boxes)
    others = held_by(Signatures(averages, positions))
    shared = shared_by(held, others, np.zeros(n, np.int64), np.arange(n))
    return scores_of(held, asked.averages, np.ones(BUCKETS, np.bool_), shared, averages)
