"""An index in which pictures are hidden among strangers; used by `recall` and `fit_ranking`."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fit_likelihood import on_white, read_strangers
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.model import ChangeBatch, QuerySignature, Signature
from iqdb_core.signature import from_image_bytes, turned

Rows = tuple[NDArray[np.float64], NDArray[np.int16]]
"""Averages (n, 3) and positions (n, 3, 40)."""
STRANGER: Final = 10**9
"""The id of the first stranger."""
_SAME_SCORE: Final = 45.0
_PIECES: Final = (
    *((0.2, 0.2, 0.8, 0.8), (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1)),
    *((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)),
)
"""Left, top, right and bottom of pieces of a picture whose copies are left out, as shares of its sides."""
_CROP_SIDE: Final = 400


def hidden_among(originals: list[Signature], strangers: Rows, also: Sequence[Signature] = ()) -> ImageIndex:
    """Return an index of the originals, ids from 0, and of the strangers.

    Strangers that are copies of an original, or of what is in `also`, are left out.
    """
    averages, positions = strangers
    ids = np.arange(len(averages)) + STRANGER
    with build(averages, positions, ids) as index:
        copies = {
            match.image_id
            for one in turned([QuerySignature(original) for original in (*originals, *also)], "mirror")
            for match in index.query(one.signature, 1000, _SAME_SCORE)
        }
    is_kept = ~np.isin(ids, list(copies))
    print(f"{len(originals)} pictures among {is_kept.sum()}; {len(copies)} left out", file=sys.stderr)
    own_averages, own_positions = rows_of(originals)
    return build(
        np.concatenate([averages[is_kept], own_averages]),
        np.concatenate([positions[is_kept], own_positions]),
        np.concatenate([ids[is_kept], np.arange(len(originals))]),
    )


def build(averages: NDArray[np.float64], positions: NDArray[np.int16], ids: NDArray[np.int64]) -> ImageIndex:
    """Return an index of signatures."""
    index = ImageIndex.open(None, store_id="recall", options=IndexOptions())
    for first in range(0, len(ids), 16_384):
        part = slice(first, first + 16_384)
        add(index, averages[part], positions[part], ids[part])
    index.maintain()
    return index


def add(
    index: ImageIndex,
    averages: NDArray[np.float64],
    positions: NDArray[np.int16],
    ids: NDArray[np.int64],
) -> None:
    """Add signatures to an index."""
    n, seq = len(ids), index.stats().applied_seq
    seqs = np.arange(seq + 1, seq + n + 1, dtype=np.int64)
    index.apply(ChangeBatch(seqs, ids, np.ones(n, np.bool_), averages, positions))


def rows_of(signatures: Sequence[Signature]) -> Rows:
    """Return signatures as columns."""
    return (
        np.array([one.averages for one in signatures]),
        np.stack([one.signed_positions() for one in signatures]),
    )


def read_all(paths: Sequence[Path]) -> Rows:
    """Return the strangers of several files; see `read_strangers`."""
    averages, positions = zip(*map(read_strangers, paths), strict=True)
    return np.concatenate(averages), np.concatenate(positions)


def crops_of(paths: Sequence[Path], count: int) -> Rows:
    """Return the signatures of random crops of pictures, to be strangers where no others are at hand."""
    random = np.random.default_rng(11)
    pictures = [on_white(path) for path in paths]
    found = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        share = random.uniform(0.2, 0.7, 2)
        left, top = random.uniform(0, 1 - share)
        found.append(piece(picture, left, top, left + share[0], top + share[1], _CROP_SIDE))
    return rows_of(found)


def pieces_of(picture: Image.Image) -> list[Signature]:
    """Return the signatures of a picture and of its middle, halves and quarters."""
    return [piece(picture, *box) for box in ((0, 0, 1, 1), *_PIECES)]


def piece(
    picture: Image.Image, left: float, top: float, right: float, bottom: float, side: int | None = None
) -> Signature:
    """Return the signature of a rectangle of a picture, reduced to a longest side."""
    w, h = picture.size
    left, top = min(w - 1, round(w * left)), min(h - 1, round(h * top))
    cut = picture.crop((left, top, max(left + 1, round(w * right)), max(top + 1, round(h * bottom))))
    if side is not None:
        cut.thumbnail((side, side))
    out = io.BytesIO()
    cut.save(out, "BMP")
    return from_image_bytes(out.getvalue())
