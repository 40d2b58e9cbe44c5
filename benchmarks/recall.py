"""Recall: whether a search finds the original of a distorted picture, and whether its likelihood is right.

    python -m benchmarks.recall [FOLDER...] [--strangers FILE.sqlite [FILE.npz]] [--layouts] [--screenshots]
        [--pictures N] [--offset N] [--processes N] [--plot OUT.png]

Claim: with `find=copies` a picture is found at rank 1 inside borders, bars, captions and screenshots, and
when it is mirrored or turned, where plain search and whole-picture hashes find next to nothing; and a
likelihood of 0.9 is right nine times of ten.

Method: every second picture of FOLDER, those that `fit_likelihood` does not use, hidden among the
signatures of FILE.sqlite (IQDB's schema) and FILE.npz (averages, positions). Each is distorted in every
way of `benchmarks.distortions` and looked for, plain and as a copy. Strangers that are copies of a
picture (score of at least 45 with the picture itself, its middle, a half or a quarter, mirrored too) are
left out: they may come from the same original. False matches of a picture that is not in the index are
measured by removing the picture itself from the answer.

With `--layouts` the ways are those of `benchmarks.layouts`, on which nothing was tuned. With `--screenshots`
only screenshots are looked for, and the index also holds screenshots of other pictures in the same apps. The
other pictures, there and in collages, are from the half that `fit_likelihood` uses.

`--pictures` takes every nth picture, about N of them, and `--offset` begins with another one: 47 of 514
pictures are every eleventh, and no two of the offsets 0 to 10 have one in common. Without FOLDER the
pictures are those of `tests/fixtures`, and without `--strangers` 10,000 crops of the other half stand in for
strangers: few and easy, but all that the repository has.

Control: imagehash's pHash and dHash, and pdqhash, in the same run. They are ranked among the hidden
pictures alone, since there are no pixels of the strangers: an easier task than ours by orders of
magnitude.

With `--processes` the pictures are distributed; each process has an index of everything.

Prints a Markdown table: recall at 1 / at 10, in percent, and how many were named as likely; the reliability
of the likelihood; the queries that name another image as likely, and whether that is a crop of what they show
after all (`benchmarks.crops`).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from benchmarks import app_layouts, surroundings
from benchmarks.crops import CROP_SCORE, best_crop_score
from benchmarks.distortions import DISTORTIONS, distort, in_every_way
from benchmarks.fit_likelihood import on_white
from benchmarks.hiding import STRANGER, add, crops_of, hidden_among, pieces_of, read_all, rows_of
from benchmarks.layouts import COLLAGES, layouts
from benchmarks.surroundings import Distortion
from iqdb_core.index import ImageIndex
from iqdb_core.likelihood_words import CERTAIN, LIKELY
from iqdb_core.model import Signature
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query

_OWN_PICTURES: Final = Path(__file__).parents[1] / "tests/fixtures/images/photos"
_CROPS: Final = 10_000
_SCREENSHOT: Final = STRANGER // 2
"""The id of the first screenshot of another picture."""
_BINS: Final = 10
_TURNED: Final = {"flipped", "rotated 90", "rotated 180", "rotated 270", "transposed"}
_BASELINES: Final = ("pHash", "dHash", "PDQ")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is hidden, among what, and how it is looked for.

    Parameters
    ----------
    hidden, others : list of Path
        The others are shown beside a hidden picture, or in the same app.
    fitted : list of Path
        The pictures whose crops are strangers if there are no others.
    is_layouts, strangers, is_screenshots
        As on the command line.
    """

    hidden: list[Path]
    others: list[Path]
    fitted: list[Path]
    is_layouts: bool
    strangers: list[Path] = field(default_factory=list)
    is_screenshots: bool = False

    def ways(self, others: list[Image.Image]) -> dict[str, Distortion]:
        """Return how pictures are distorted."""
        ways = layouts(others) if self.is_layouts else DISTORTIONS
        if not self.is_screenshots:
            return ways
        return {name: way for name, way in ways.items() if name.removeprefix("mirrored, ") in self.apps}

    @property
    def apps(self) -> tuple[str, ...]:
        """The ways that are screenshots."""
        return tuple(app_layouts.APPS if self.is_layouts else surroundings.APPS)


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
    """The result of one distorted picture.

    `alarm` is the likelihood of the likeliest other image, and `others` are those that are likely, by id.
    """

    name: str
    number: int
    found: dict[str, list[int]]
    likelihood: float
    is_right: bool
    alarm: float
    others: dict[int, Signature]

    @property
    def is_named(self) -> bool:
        """Whether the picture was named as likely."""
        return self.is_right and self.likelihood >= LIKELY


def outcomes(plan: Plan, own: range) -> list[Outcome]:
    """Search every distortion of the hidden pictures whose numbers are in `own`."""
    pictures, others = ([on_white(path) for path in paths] for paths in (plan.hidden, plan.others))
    known = [np.stack(bits) for bits in zip(*map(baseline_bits, pictures), strict=True)]
    ways = plan.ways(others)
    found = []
    with _index_of(plan, pictures, others, ways) as index:
        for number in own:
            for name, data in in_every_way(number, pictures[number], ways):
                found.append(_outcome(index, known, data, name, number))
            print(f"{number + 1}/{len(pictures)} {plan.hidden[number].name}", file=sys.stderr)
    return found


def _index_of(
    plan: Plan, pictures: list[Image.Image], others: list[Image.Image], ways: Mapping[str, Distortion]
) -> ImageIndex:
    originals = [from_image_bytes(path.read_bytes()) for path in plan.hidden]
    strangers = read_all(plan.strangers) if plan.strangers else crops_of(plan.fitted, _CROPS)
    shown = others if plan.is_layouts or plan.is_screenshots else []
    index = hidden_among(
        originals, strangers, [piece for picture in [*pictures, *shown] for piece in pieces_of(picture)]
    )
    if plan.is_screenshots:
        screenshots = [
            from_image_bytes(distort(name, other, np.random.default_rng(number), ways))
            for number, other in enumerate(others)
            for name in plan.apps
        ]
        add(index, *rows_of(screenshots), np.arange(len(screenshots)) + _SCREENSHOT)
        print(f"and {len(screenshots)} screenshots of {len(others)} other pictures", file=sys.stderr)
    return index


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
    others = [copy for copy in copies if copy.image_id != number]
    return Outcome(
        name,
        number,
        ids,
        copies[0].likelihood,
        copies[0].image_id == number,
        max(copy.likelihood for copy in others),
        {copy.image_id: copy.signature for copy in others if copy.likelihood >= LIKELY},
    )


def _is_picture(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose pictures and ways."""
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--layouts", action="store_true")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--offset", type=int, default=0)


def plan_of(args: argparse.Namespace) -> Plan:
    """Return what these options choose."""
    folders = args.folders or [_OWN_PICTURES]
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if _is_picture(path)]
    fitted, held_out = paths[::2], paths[1::2]
    step = max(1, len(held_out) // (args.pictures or len(held_out)))
    hidden = held_out[args.offset :: step]
    return Plan(hidden, fitted[::step], fitted, args.layouts)


def _print_tables(found: list[Outcome], plan: Plan) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    whole = Tally()
    for one in found:
        for way, ids in one.found.items():
            tallies.setdefault(one.name, Tally()).add(way, ids, one.number)
            whole.add(way, ids, one.number)
    ways = ("plain", "find=copies", *_BASELINES)
    print("| what was done | plain | find=copies | likely |", *(f"{name} |" for name in _BASELINES))
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, tally in (*tallies.items(), ("**all**", whole)):
        named = 100 * np.mean([one.is_named for one in found if tally is whole or one.name == name])
        plain, copies, *others = (tally.text(way) for way in ways)
        print(f"| {name} | {plain} | {copies} | {named:.0f} | {' | '.join(others)} |")
    likelihoods = np.array([one.likelihood for one in found])
    is_right = np.array([one.is_right for one in found])
    alarms = np.array([one.alarm for one in found])
    print(f"\nexpected calibration error {reliability(likelihoods, is_right):.3f}")
    both = np.concatenate([likelihoods, alarms])
    error = reliability(both, np.concatenate([is_right, np.zeros(len(alarms), np.bool_)]))
    print(f"\nthe same, each query also with its picture left out: {error:.3f}")
    for word, least in (("likely", LIKELY), ("certain", CERTAIN)):
        named = np.mean(is_right & (likelihoods >= least))
        print(f"pictures that are {word}: {100 * named:.1f} % of {len(found)} queries")
        print(f"queries that name another image as {word}: {np.sum(alarms >= least)}")
    _print_others(found, plan)
    return tallies


def _kind(image_id: int, signature: Signature, shown: list[Image.Image]) -> str:
    """Return what another image is; the worse, the later in the alphabet."""
    if image_id < _SCREENSHOT:
        return "a picture of the folder"
    if image_id < STRANGER:
        return "a screenshot of another picture"
    is_crop = any(best_crop_score(picture, signature) >= CROP_SCORE for picture in shown)
    return "a crop of what is shown" if is_crop else "a stranger"


def _print_others(found: list[Outcome], plan: Plan) -> None:
    """Print the queries that name another image as likely, and what that is."""
    kinds: dict[str, int] = {}
    others = [on_white(path) for path in plan.others] if plan.is_layouts else []
    for one in sorted(found, key=lambda one: -one.alarm):
        shown = [on_white(plan.hidden[one.number]), *(others if one.name in COLLAGES else [])]
        of_query = {_kind(image_id, signature, shown) for image_id, signature in one.others.items()}
        if of_query:
            kind = max(of_query)
            kinds[kind] = kinds.get(kind, 0) + 1
            print(f"  {one.alarm:.5f} {kind}: {one.name}, {plan.hidden[one.number].name}")
    for kind, n in sorted(kinds.items()):
        print(f"queries of which the worst of these is {kind}: {n}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--strangers", nargs="+", type=Path, default=[])
    parser.add_argument("--screenshots", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    plan = replace(plan_of(args), strangers=args.strangers, is_screenshots=args.screenshots)
    own = [range(first, len(plan.hidden), args.processes) for first in range(args.processes)]
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        asked = [pool.submit(outcomes, plan, numbers) for numbers in own]
        found = [outcome for future in asked for outcome in future.result()]
    tallies = _print_tables(found, plan)
    if args.plot:
        plot(tallies, args.plot)


if __name__ == "__main__":
    main()
