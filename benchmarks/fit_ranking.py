"""Fit the corrections of the evidence, and its conversion to a likelihood, on searches for distortions.

    python -m benchmarks.fit_ranking FOLDER... --strangers FILE.sqlite [FILE.npz] [--every N]

Every second picture of FOLDER, those that `fit_likelihood` uses too, is hidden among the strangers of
`recall`, distorted, and looked for by the signatures of the whole, its parts and their mirrored copies. Two
regressions, both on these searches alone:

1. A conditional logit over each query's candidates, the picture itself against everything else: which weights
   rank the picture first. Crops count as much as all edits and surroundings.
2. A logistic regression over each query's best match, and over its best stranger as if the picture were
   not in the index: what share of such matches is right.

Prints the end of `iqdb_core/index/evidence/table.py`, whose numbers were fitted in this way with more kinds
of crops of more pictures. Beware of pictures that are in FOLDER twice, and of strangers made from the same
pictures: strangers that are sure copies by the present table are left out.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.distortions import in_every_way
from benchmarks.fit_likelihood import on_white
from benchmarks.hiding import Rows, hidden_among, read_all, rows_of
from iqdb_core.index import ImageIndex
from iqdb_core.index.evidence import table
from iqdb_core.index.evidence.likelihood import Evidence, Population
from iqdb_core.index.evidence.sharing import buckets_of, held_by, shared_by
from iqdb_core.index.rows import Signatures
from iqdb_core.model import BUCKETS, GREY_LIMIT, PLANE, SIDE, QuerySignature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query

_DEPTH: Final = 60
_SCALES: Final = np.array([20.0, *[10.0] * 5, *(0.2, 0.05, 1 / 30), 10.0, 1.0, 300.0])
"""Divisors of the columns, so that one penalty suits all."""
_ABSENT: Final = 0.4
"""Weight of a query without its picture in the second regression."""
_LOOKS_A_COPY: Final = 8.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Searches:
    """Candidates of all searches as rows.

    Parameters
    ----------
    columns : (n, 12) float64 ndarray
        Modelled evidence; surprise shared by bin 1..5; difference of averages by channel; score; whether a
        part or turn was searched; surprise of the whole query. In the units of `_SCALES`.
    is_right : (n,) bool ndarray
    query : (n,) int64 ndarray
        From 0, ascending.
    weight : (queries,) float64 ndarray
    """

    columns: Floats
    is_right: NDArray[np.bool_]
    query: NDArray[np.int64]
    weight: Floats


def candidates(
    index: ImageIndex, population: Population, one: QuerySignature
) -> tuple[NDArray[np.int64], Floats]:
    """Return the ids and columns of a signature's best matches."""
    query = one.signature
    matches = index.query(query, _DEPTH)
    others = Signatures(
        np.array([match.signature.averages for match in matches]),
        np.stack([match.signature.signed_positions() for match in matches]),
    )
    asked = Signatures(np.array([query.averages]), query.signed_positions()[None])
    held = held_by(asked)
    evidence = Evidence(held, asked.averages, population)
    trust = float(evidence.trusts[0])
    n = len(matches)
    pairs = shared_by(held, held_by(others), np.zeros(n, np.int64), np.arange(n))
    channels = 1 if query.is_grey else 3
    own = np.unique(buckets_of(query.signed_positions()[:channels].astype(np.int64)))
    surprise = np.zeros(BUCKETS)
    surprise[own] = -np.log(population.shares(own)) * trust
    of_others = buckets_of(others.positions[:, :channels].astype(np.int64))
    of_others[np.abs(others.averages[:, 1:]).sum(axis=1) < GREY_LIMIT, 1:] = 0
    rows, columns = of_others % PLANE // SIDE, of_others % PLANE % SIDE
    bins = np.minimum(np.maximum(rows, columns), 5)
    shared = [np.where(bins == number, surprise[of_others], 0.0).sum(axis=(1, 2)) for number in range(1, 6)]
    apart = evidence.apart(pairs, others.averages)
    is_more = float(one.part is not None or one.turn != "none")
    parts: list[Floats] = [
        evidence.modelled(pairs, apart),
        *shared,
        *np.minimum(apart, table.MOST_DIFFERENCES).T,
        trust * np.array([match.score for match in matches]),
        np.full(len(matches), is_more),
        np.full(len(matches), surprise.sum()),
    ]
    return np.array([match.image_id for match in matches]), np.stack(parts, axis=1) / _SCALES


def search(folders: list[Path], strangers: Rows, every: int) -> Searches:
    """Hide the pictures in the index, and search for every distortion of them."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())[::2][::every]
    originals = [from_image_bytes(path.read_bytes()) for path in paths]
    columns, is_right, queries, weights = [], [], [], []
    with hidden_among(originals, strangers) as index:
        population = _population(strangers, rows_of(originals))
        for number, path in enumerate(paths):
            for name, data in in_every_way(number, on_white(path)):
                asked = read_query(data, turns="mirror", limits=DecodeLimits()).signatures
                found = [candidates(index, population, one) for one in asked if not one.is_uncropped]
                ids, rows = (np.concatenate(values) for values in zip(*found, strict=True))
                looks = (ids >= len(originals)) & (_present_logits(rows) > _LOOKS_A_COPY)
                keep = (ids == number) | ~looks
                columns.append(rows[keep])
                is_right.append(ids[keep] == number)
                queries.append(np.full(keep.sum(), len(weights)))
                weights.append(5.0 if "crop" in name or "cut off" in name else 1.0)
            print(f"{number + 1}/{len(paths)} {path.name}", file=sys.stderr)
    return Searches(*map(np.concatenate, (columns, is_right, queries)), np.array(weights))


def _population(strangers: Rows, originals: Rows) -> Population:
    averages, positions = (np.concatenate(both) for both in zip(strangers, originals, strict=True))
    held = buckets_of(positions.astype(np.int64))
    in_colour = np.abs(averages[:, 1:]).sum(axis=1) >= GREY_LIMIT
    counts = np.bincount(held[:, 0].ravel(), minlength=BUCKETS)
    counts += np.bincount(held[in_colour, 1:].ravel(), minlength=BUCKETS)
    return Population(counts.astype(np.int32), len(averages))


def _present_logits(rows: Floats) -> Floats:
    weights = [1.0, *table.SHARED_WEIGHTS, *(-weight for weight in table.DIFFERENCE_WEIGHTS)]
    weights += [table.SCORE_WEIGHT, -table.PART_PENALTY, table.DETAIL_WEIGHT]
    logits: Floats = table.SCALE * (rows * _SCALES) @ np.array(weights) + table.OFFSET - np.log(1e5)
    return logits


def rank(searches: Searches, penalty: float = 2e-3) -> Floats:
    """Return the weights with which the right candidate of a query comes first."""
    has_right = np.zeros(len(searches.weight), np.bool_)
    has_right[searches.query[searches.is_right]] = True
    rows = has_right[searches.query]
    x, is_right, query = searches.columns[rows], searches.is_right[rows], searches.query[rows]
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    lengths = np.diff(np.append(starts, len(query)))
    weight = searches.weight[query[starts]]
    weight = weight / weight.sum()

    def loss(b: Floats) -> tuple[float, Floats]:
        values = x @ b
        grown = np.exp(values - np.repeat(np.maximum.reduceat(values, starts), lengths))
        everything = np.add.reduceat(grown, starts)
        right = np.add.reduceat(grown * is_right, starts) + 1e-300
        pull = grown * is_right / np.repeat(right, lengths) - grown / np.repeat(everything, lengths)
        slope = x.T @ (pull * np.repeat(weight, lengths))
        return float(
            -(weight * np.log(right / everything)).sum() + penalty * (b @ b)
        ), -slope + 2 * penalty * b

    return _least(loss, x.shape[1])


def calibrate(searches: Searches, ranked: Floats) -> Floats:
    """Return offset and factor with which the best matches are right as often as their likelihood says."""
    best = np.full((2, len(searches.weight)), -99.0)  # strangers, the picture
    np.maximum.at(best, (searches.is_right.astype(int), searches.query), ranked)
    values = np.concatenate([best.max(axis=0), best[0]])
    is_right = np.concatenate([best[1] > best[0], np.zeros(best.shape[1], np.bool_)])
    weight = np.repeat([1.0, _ABSENT], best.shape[1])
    x = np.stack([np.ones(len(values)), values], axis=1)

    def loss(b: Floats) -> tuple[float, Floats]:
        logits = x @ b
        probability = 1 / (1 + np.exp(-logits))
        slope = x.T @ (weight * (probability - is_right))
        return float((weight * (np.logaddexp(0, logits) - is_right * logits)).sum()), slope

    return _least(loss, 2)


def _least(loss: Any, n: int) -> Floats:
    found: Floats = minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return found


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--strangers", nargs="+", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="use every Nth of the pictures only")
    args = parser.parse_args()
    strangers = read_all(args.strangers)
    searches = search(args.folders, strangers, args.every)
    weights = rank(searches)
    offset, scale = calibrate(searches, searches.columns @ weights)
    natural = scale * weights / _SCALES
    per_nat = natural / natural[0]
    images = len(strangers[0])
    print(f"SHARED_WEIGHTS: Final = {tuple(per_nat[1:6].round(3).tolist())}")
    print(f"DIFFERENCE_WEIGHTS: Final = {tuple((-per_nat[6:9]).round().tolist())}")
    print(f"DETAIL_WEIGHT: Final = {per_nat[11]:.3f}")
    print(f"SCORE_WEIGHT: Final = {per_nat[9]:.2f}\nPART_PENALTY: Final = {-per_nat[10]:.0f}")
    print(f"SCALE: Final = {natural[0]:.4f}\nOFFSET: Final = {offset + np.log(images):.2f}")


if __name__ == "__main__":
    main()
