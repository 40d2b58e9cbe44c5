"""`iqdb compare`: how often it takes changed copies, and different pictures, for the same picture.

    python -m benchmarks.compare [FOLDER...] [--pictures N] [--offset N] [--layouts]

Claim: most changed copies are more likely the same than not, and different pictures hardly ever are.

Method: the pictures that `recall` hides, by the same options, compared as `iqdb compare` does, either way
round: each with itself changed in every way of `benchmarks.distortions`, or with `--layouts` of
`benchmarks.layouts`, and each with every other one. Pairs that seem the same are named, to be looked at: a
folder may have a picture twice.

Control: the different pictures are the control of the copies.

Prints a Markdown table: how many of the pairs are more likely the same than not, and how many likely.
"""

from __future__ import annotations

import argparse
import itertools
import sys

import numpy as np

from benchmarks.distortions import in_every_way
from benchmarks.fit_likelihood import on_white
from benchmarks.recall import add_arguments, plan_of
from iqdb_core.index import compare
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.model import QuerySignature
from iqdb_core.signature import DecodeLimits, read_query


def read(data: bytes) -> list[QuerySignature]:
    """Return what `iqdb compare` looks for."""
    return read_query(data, turns="all", limits=DecodeLimits()).signatures


def likelihood(one: list[QuerySignature], other: list[QuerySignature]) -> float:
    """Return how likely two pictures show the same, or one a part of the other."""
    return max(compare(one, other[0].signature).likelihood, compare(other, one[0].signature).likelihood)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    plan = plan_of(parser.parse_args())
    pictures = [on_white(path) for path in plan.hidden]
    asked = [read(path.read_bytes()) for path in plan.hidden]
    ways = plan.ways([on_white(path) for path in plan.others])
    found: dict[str, list[float]] = {}
    for number, picture in enumerate(pictures):
        for name, data in in_every_way(number, picture, ways):
            found.setdefault(name, []).append(likelihood(read(data), asked[number]))
        print(f"{number + 1}/{len(pictures)} {plan.hidden[number].name}", file=sys.stderr)
    found["**all changed copies**"] = [each for many in found.values() for each in many]
    pairs = [*itertools.combinations(range(len(pictures)), 2)]
    found["**different pictures**"] = [likelihood(asked[one], asked[other]) for one, other in pairs]
    print("| what was compared | pairs | from 0.5, % | likely, % |\n| --- | --- | --- | --- |")
    for name, each in found.items():
        even, likely = (100 * np.mean(np.array(each) >= least) for least in (0.5, LIKELY))
        print(f"| {name} | {len(each)} | {even:.1f} | {likely:.1f} |")
    print("\nthe likeliest different pictures:")
    for (one, other), value in sorted(
        zip(pairs, found["**different pictures**"], strict=True), key=lambda pair: -pair[1]
    )[:10]:
        print(f"  {value:.4f} {plan.hidden[one].name}, {plan.hidden[other].name}")


if __name__ == "__main__":
    main()
