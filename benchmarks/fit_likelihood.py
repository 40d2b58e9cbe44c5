"""Fit the table of the likelihood: how copies differ from their originals, and strangers from each other.

    python -m benchmarks.fit_likelihood FOLDER... --strangers FILE.sqlite [--pictures N]

FOLDER has pictures to fit on; every second one is used, so that the others can show how well it works
(`benchmarks.recall`). Each is changed in every way of `benchmarks.distortions`, and the picture's own
signature is compared with that of the changed picture, or of the part or turn of it that fits best. The kinds
of copies are a mixture fitted by expectation maximization. FILE.sqlite is an IQDB file with
signatures of many other pictures. Prints what `iqdb_core/index/evidence/table.py` holds.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.distortions import EDITS, in_every_way
from iqdb_core.model import CHANNELS, KEPT, SIDE, Signature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query

_KIND_EDGES: Final = (0.12, 0.2, 0.28, 0.36, 0.5, 0.65, 0.8, 0.9, 0.96)
"""Initial kinds of copies: bounds of the share of kept coefficients."""
_BINS: Final = 5
_ROUNDS: Final = 200
_LEAST_SHARED: Final = 0.25
"""A part or turn that shares less with the original than this does not fit."""
_LEAST_SHARED_EDIT: Final = 0.06
"""The same for a picture that was only edited."""


def pairs(folders: list[Path], count: int | None) -> Iterator[tuple[Signature, Signature]]:
    """Yield signatures of changed pictures, each with that of its original."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())[::2][:count]
    for number, path in enumerate(paths):
        original = from_image_bytes(path.read_bytes())
        for name, data in in_every_way(number, on_white(path)):
            asked = read_query(data, turns="all,negative", limits=DecodeLimits()).signatures
            candidates = [one.signature for one in asked if not one.is_uncropped]
            best = max(candidates, key=lambda query: _shared_share(query, original))
            least = _LEAST_SHARED_EDIT if name in EDITS else _LEAST_SHARED
            if _shared_share(best, original) >= least:
                yield best, original
        print(f"{number + 1}/{len(paths)} {path.name}", file=sys.stderr)


def on_white(path: Path) -> Image.Image:
    """Return a picture on white."""
    with Image.open(path) as opened:
        rgba = opened.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def shared_counts(query: Signature, original: Signature) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, per channel and bin 1..5, how many positions the query has and how many both share."""
    totals = np.zeros((CHANNELS, _BINS), np.int64)
    shared = np.zeros((CHANNELS, _BINS), np.int64)
    is_grey = original.is_grey
    for channel in range(1 if query.is_grey else CHANNELS):
        positions = query.signed_positions()[channel]
        bins = np.minimum(np.maximum(np.abs(positions) // SIDE, np.abs(positions) % SIDE), _BINS) - 1
        np.add.at(totals[channel], bins, 1)
        if channel == 0 or not is_grey:
            is_shared = np.isin(positions, original.signed_positions()[channel])
            np.add.at(shared[channel], bins[is_shared], 1)
    return totals, shared


def _shared_share(query: Signature, original: Signature) -> float:
    totals, shared = shared_counts(query, original)
    if original.is_grey:
        return float(shared[0].sum() / totals[0].sum())
    return float(shared.sum() / totals.sum())


def fit(
    totals: NDArray[np.int64], shared: NDArray[np.int64], differences: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of the kinds, what each keeps, and the mean differences of averages.

    Parameters
    ----------
    totals, shared : (n, 3, 5) int64 ndarray
    differences : (n, 3) float64 ndarray
        NaN for channels that a grey query does not look at.
    """
    share_kept = shared.sum(axis=(1, 2)) / totals.sum(axis=(1, 2))
    kind = np.digitize(share_kept, _KIND_EDGES)
    colours = shared[:, 1:].sum(axis=(1, 2)) / np.maximum(1, totals[:, 1:].sum(axis=(1, 2)))
    lost = (totals[:, 1:].sum(axis=(1, 2)) > 0) & (
        shared[:, 0].sum(axis=1) / totals[:, 0].sum(axis=1) > 2 * colours
    )
    kind[lost] = len(_KIND_EDGES) + 1  # grey or tinted
    belongs = np.eye(len(_KIND_EDGES) + 2)[kind]
    looks = ~np.isnan(differences)
    known = np.nan_to_num(differences)
    for _ in range(_ROUNDS):
        sizes = belongs.sum(axis=0) + 1
        shares = sizes / sizes.sum()
        n = np.einsum("nk,ncb->kcb", belongs, totals)
        kept = (np.einsum("nk,ncb->kcb", belongs, shared) + 1) / (n + 2)
        mean = (belongs.T @ known + 0.002) / (belongs.T @ looks + 1)
        log = np.log(shares) + np.einsum("ncb,kcb->nk", shared, np.log(kept))
        log += np.einsum("ncb,kcb->nk", totals - shared, np.log1p(-kept))
        log -= looks @ np.log(2 * mean).T + known @ (1 / mean).T
        belongs = np.exp(log - np.logaddexp.reduce(log, axis=1, keepdims=True))
    return shares, kept, mean


def usual_shares(positions: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return how often a picture holds a signed position, by channel and the octaves of row and column."""
    octave = np.array([int(n).bit_length() for n in range(SIDE)])
    out = np.zeros((CHANNELS, 8, 8))
    magnitude = np.abs(positions.astype(np.int64))
    for channel in range(CHANNELS):
        rows, columns = octave[magnitude[:, channel] // SIDE], octave[magnitude[:, channel] % SIDE]
        np.add.at(out[channel], (rows, columns), 1)
    cells = np.bincount(octave)
    return (out + 0.5) / len(positions) / (2 * cells[:, None] * cells[None, :])


def read_strangers(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return the averages and positions of an IQDB file, or of an .npz of such arrays."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["averages"].astype(np.float64), arrays["positions"]
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT avglf1, avglf2, avglf3, sig FROM images").fetchall()
    positions = np.stack([np.frombuffer(row[3], "<i2").reshape(CHANNELS, KEPT) for row in rows])
    return np.array([row[:3] for row in rows]), positions


def table_text(
    shares: NDArray[np.float64],
    kept: NDArray[np.float64],
    mean: NDArray[np.float64],
    strangers: NDArray[np.float64],
    usual: NDArray[np.float64],
    scale: float,
    offset: float,
) -> str:
    """Return the source of the table."""

    def text(values: NDArray[np.float64], digits: int = 3) -> str:
        if values.ndim == 0:
            return f"{float(values):.{digits}g}"
        return "(" + ", ".join(text(value, digits) for value in values) + ")"

    def wrapped(values: NDArray[np.float64]) -> str:
        lines = textwrap.wrap(text(values), 104, break_long_words=False, break_on_hyphens=False)
        return "(\n    " + "\n    ".join(lines) + "\n)"

    order = np.argsort(-kept.mean(axis=(1, 2)))
    return f'''"""The numbers of the likelihood, fitted by `benchmarks/fit_likelihood.py`."""

from __future__ import annotations

from typing import Final

# fmt: off
COPY_KINDS: Final = {text(shares[order])}
"""Share of each kind among copies."""
KEPT_SHARES: Final = {wrapped(np.clip(kept[order], 0.005, 0.995))}
"""How often a copy of each kind keeps a coefficient, by channel and bin 1..5."""
COPY_DIFFERENCES: Final = {wrapped(mean[order])}
"""Mean difference of the averages of a copy of each kind, by channel."""
STRANGER_DIFFERENCES: Final = {text(strangers)}
"""The same of strangers."""
USUAL_SHARES: Final = {wrapped(usual)}
"""How often a picture holds a signed position, by channel and the octaves of row and column."""
SCALE: Final = {scale!r}
OFFSET: Final = {offset!r}
"""What makes log odds of evidence, score and number of images: a logistic regression, held-out pictures."""
SCORE_WEIGHT: Final = 0.8
PART_PENALTY: Final = 16.0
"""In nats of evidence: what a point of score is worth, and what a part or turn has to make up for. Tried 0 to
1.5, and 0 to 20: with these no distortion is found less often than by the score alone."""
'''


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--strangers", type=Path, required=True)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--scale", type=float, default=0.109)
    parser.add_argument("--offset", type=float, default=2.31)
    args = parser.parse_args()
    counted, differences = [], []
    for query, original in pairs(args.folders, args.pictures):
        counted.append(shared_counts(query, original))
        apart = np.abs(np.subtract(query.averages, original.averages))
        differences.append([apart[0], *(apart[1:] if not query.is_grey else [np.nan, np.nan])])
    totals, shared = (np.stack(values) for values in zip(*counted, strict=True))
    averages, positions = read_strangers(args.strangers)
    shuffled = np.random.default_rng(3).permutation(len(averages))
    print(
        table_text(
            *fit(totals, shared, np.array(differences)),
            np.abs(averages - averages[shuffled]).mean(axis=0),
            usual_shares(positions),
            args.scale,
            args.offset,
        )
    )


if __name__ == "__main__":
    main()
