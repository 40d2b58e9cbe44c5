"""Recall: whether a search finds the original of a distorted picture, and whether its likelihood is right.

    python -m benchmarks.recall FOLDER... --strangers FILE.sqlite [FILE.npz] [--pictures N] [--plot OUT.png]

Claim: with `find=copies` a picture is found at rank 1 inside borders, bars, captions and screenshots, and
when it is mirrored or turned, where plain search and whole-picture hashes find next to nothing; and a
likelihood of 0.9 is right nine times of ten.

Method: every second picture of FOLDER, those that `fit_likelihood` does not use, hidden among the
signatures of FILE.sqlite (IQDB's schema) and FILE.npz (averages, positions). Each is distorted in every
way of `benchmarks.distortions` and looked for, plain and as a copy. Strangers that are copies of a
picture (score of at least 45 with the picture itself, its middle, a half or a quarter, mirrored too) are
left out: they may come from the same original. False matches of a picture that is not in the index are
measured by removing the picture itself from the answer.

Control: imagehash's pHash and dHash, and pdqhash, in the same run. They are ranked among the hidden
pictures alone, since there are no pixels of the strangers: an easier task than ours by orders of
magnitude.

With `--processes` the pictures are distributed; each process has an index of everything.

Prints a Markdown table: recall at 1 / at 10, in percent; the reliability of the likelihood; false alarms.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from benchmarks.distortions import DISTORTIONS, distort
from benchmarks.fit_likelihood import on_white, read_strangers
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.likelihood_words import CERTAIN, LIKELY
from iqdb_core.model import ChangeBatch, QuerySignature, Signature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query, turned

_STRANGER: Final = 10**9
_SAME_SCORE: Final = 45.0
_BINS: Final = 10
_TURNED: Final = {"flipped", "rotated 90", "rotated 180", "rotated 270", "transposed"}
_PIECES: Final = (
    *((0.2, 0.2, 0.8, 0.8), (0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1)),
    *((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)),
)
"""Left, top, right and bottom of pieces of a picture whose copies are left out, as shares of its sides."""
_BASELINES: Final = ("pHash", "dHash", "PDQ")


def build(averages: NDArray[np.float64], positions: NDArray[np.int16], ids: NDArray[np.int64]) -> ImageIndex:
    """Return an index of signatures."""
    index = ImageIndex.open(None, store_id="recall", options=IndexOptions())
    for first in range(0, len(ids), 16_384):
        part = slice(first, first + 16_384)
        n = len(ids[part])
        index.apply(
            ChangeBatch(
                seqs=np.arange(first + 1, first + n + 1, dtype=np.int64),
                image_ids=ids[part],
                is_live=np.ones(n, np.bool_),
                averages=averages[part],
                positions=positions[part],
            )
        )
    index.maintain()
    return index


def hidden_among(
    originals: list[Signature], strangers: list[Path], pieces: Sequence[Signature] = ()
) -> ImageIndex:
    """Return an index of the originals, ids from 0, and of the strangers.

    Strangers that are copies of an original, or of a piece of it, are left out.
    """
    found = [read_strangers(path) for path in strangers]
    averages = np.concatenate([one[0] for one in found])
    positions = np.concatenate([one[1] for one in found])
    ids = np.arange(len(averages)) + _STRANGER
    with build(averages, positions, ids) as index:
        copies = {
            match.image_id
            for one in turned([QuerySignature(original) for original in (*originals, *pieces)], "mirror")
            for match in index.query(one.signature, 1000, _SAME_SCORE)
        }
    is_kept = ~np.isin(ids, list(copies))
    print(f"{len(originals)} pictures among {is_kept.sum()}; {len(copies)} left out", file=sys.stderr)
    return build(
        np.concatenate([averages[is_kept], np.array([one.averages for one in originals])]),
        np.concatenate([positions[is_kept], np.stack([one.signed_positions() for one in originals])]),
        np.concatenate([ids[is_kept], np.arange(len(originals))]),
    )


def baseline_bits(picture: Image.Image) -> list[NDArray[np.bool_]]:
    """Return the picture's hashes by the other libraries, as bits."""
    return [
        imagehash.phash(picture).hash.reshape(-1),
        imagehash.dhash(picture).hash.reshape(-1),
        pdqhash.compute(np.asarray(picture.convert("RGB")))[0].astype(np.bool_),
    ]


class Tally:
    """The results of the queries with one distortion."""

    def __init__(self) -> None:
        self.ranks: dict[str, list[int]] = {}

    def add(self, method: str, ids: list[int], wanted: int) -> None:
        """Note the rank of the original."""
        self.ranks.setdefault(method, []).append(ids.index(wanted) if wanted in ids else 99)

    def text(self, method: str) -> str:
        """Return recall at 1 and at 10."""
        ranks = np.array(self.ranks[method])
        return f"{100 * np.mean(ranks < 1):.0f} / {100 * np.mean(ranks < 10):.0f}"

    def at_1(self, method: str) -> float:
        """Return recall at 1 in percent."""
        return float(100 * np.mean(np.array(self.ranks[method]) < 1))


def reliability(likelihoods: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Print how often each likelihood is right; return the expected calibration error."""
    print("\n| likelihood | matches | mean likelihood | share that is right |\n| --- | --- | --- | --- |")
    error = 0.0
    bins = np.minimum((likelihoods * _BINS).astype(int), _BINS - 1)
    for number in range(_BINS):
        rows = bins == number
        if rows.any():
            mean, share = likelihoods[rows].mean(), is_right[rows].mean()
            error += abs(mean - share) * rows.mean()
            print(f"| from {number / _BINS:.1f} | {rows.sum()} | {mean:.3f} | {share:.3f} |")
    return error


def plot(tallies: dict[str, Tally], path: Path) -> None:
    """Draw recall at 1 of all methods."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - slow to load, and only wanted here

    figure, axes = plt.subplots(figsize=(9, 0.28 * len(tallies) + 1))
    places = np.arange(len(tallies))
    for method, marker in (("plain", "x"), ("PDQ", "."), ("find=copies", "o")):
        axes.plot([tally.at_1(method) for tally in tallies.values()], places, marker, label=method)
    axes.set_yticks(places, list(tallies))
    axes.invert_yaxis()
    axes.set_xlabel("recall at 1, %")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one distorted picture."""

    name: str
    number: int
    found: dict[str, list[int]]
    likelihood: float
    is_right: bool
    alarm: float


def outcomes(paths: list[Path], strangers: list[Path], own: range) -> list[Outcome]:
    """Search every distortion of the hidden pictures whose numbers are in `own`."""
    originals = [from_image_bytes(path.read_bytes()) for path in paths]
    pictures = [on_white(path) for path in paths]
    pieces = [_piece(picture, *box) for picture in pictures for box in _PIECES]
    known = [np.stack(bits) for bits in zip(*map(baseline_bits, pictures), strict=True)]
    found = []
    with hidden_among(originals, strangers, pieces) as index:
        for number in own:
            for kind, name in enumerate(DISTORTIONS):
                data = distort(name, pictures[number], np.random.default_rng(1000 * number + kind))
                found.append(_outcome(index, known, data, name, number))
            print(f"{number + 1}/{len(paths)} {paths[number].name}", file=sys.stderr)
    return found


def _piece(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Signature:
    w, h = picture.size
    out = io.BytesIO()
    picture.crop((round(w * left), round(h * top), round(w * right), round(h * bottom))).save(out, "BMP")
    return from_image_bytes(out.getvalue())


def _outcome(index: ImageIndex, known: list[Any], data: bytes, name: str, number: int) -> Outcome:
    turns = "all" if name in _TURNED else "mirror,negative" if name == "inverted" else "mirror"
    asked = read_query(data, turns=turns, limits=DecodeLimits()).signatures
    copies = index.find_copies(asked, limit=11).matches
    ids = {
        "plain": [match.image_id for match in index.query(asked[0].signature, 10)],
        "find=copies": [copy.image_id for copy in copies[:10]],
    }
    with Image.open(io.BytesIO(data)) as opened:
        bits = baseline_bits(opened.convert("RGB"))
    for way, of_known, own in zip(_BASELINES, known, bits, strict=True):
        ids[way] = np.argsort((of_known != own).sum(axis=1), kind="stable")[:10].tolist()
    return Outcome(
        name,
        number,
        ids,
        copies[0].likelihood,
        copies[0].image_id == number,
        max(copy.likelihood for copy in copies if copy.image_id != number),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--strangers", nargs="+", type=Path, required=True)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    paths = sorted(path for folder in args.folders for path in folder.rglob("*") if path.is_file())[1::2]
    paths = paths[:: max(1, len(paths) // (args.pictures or len(paths)))]
    own = [range(first, len(paths), args.processes) for first in range(args.processes)]
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        asked = [pool.submit(outcomes, paths, args.strangers, numbers) for numbers in own]
        found = [outcome for future in asked for outcome in future.result()]
    tallies = {name: Tally() for name in DISTORTIONS}
    for one in found:
        for way, ids in one.found.items():
            tallies[one.name].add(way, ids, one.number)
    print("| what was done | plain | find=copies |", *(f"{name} |" for name in _BASELINES))
    print("| --- | --- | --- | --- | --- | --- |")
    for name, tally in tallies.items():
        print(f"| {name} |", *(f"{tally.text(way)} |" for way in ("plain", "find=copies", *_BASELINES)))
    likelihoods = np.array([one.likelihood for one in found])
    is_right = np.array([one.is_right for one in found])
    alarms = sorted((one.alarm, one.name, paths[one.number].name) for one in found)
    print(f"\nexpected calibration error {reliability(likelihoods, is_right):.3f}")
    both = np.concatenate([likelihoods, [alarm for alarm, _, _ in alarms]])
    error = reliability(both, np.concatenate([is_right, np.zeros(len(alarms), np.bool_)]))
    print(f"\nthe same, each query also with its picture left out: {error:.3f}")
    for word, least in (("likely", LIKELY), ("certain", CERTAIN)):
        print(
            f"strangers that are {word}: {sum(one >= least for one, _, _ in alarms)} of {len(alarms)} queries"
        )
        named = np.mean(is_right & (likelihoods >= least))
        print(f"pictures that are {word}: {100 * named:.1f} % of all queries")
    print("likeliest strangers:", *(f"{one:.3f} ({name}, {path})" for one, name, path in alarms[-10:]))
    if args.plot:
        plot(tallies, args.plot)


if __name__ == "__main__":
    main()
