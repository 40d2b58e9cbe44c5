"""The cost of finding parts, compared with the signature of the whole picture.

    python -m benchmarks.parts FOLDER [--pictures N]

Claim: the parts of a screenshot or page, their signatures and those of uncropped pictures included, take
some ten times as long as the signature of the whole file.

Method: pictures of FOLDER in the surroundings of `benchmarks.distortions`; processor time of
`read_query`, less that of `from_image_bytes`, for each kind.

Control: `from_image_bytes` (decoding and hashing) of the same files in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distortions import distort
from benchmarks.fit_likelihood import on_white
from benchmarks.surroundings import SURROUNDINGS
from iqdb_core.signature import DecodeLimits, from_image_bytes, read_query, warm_up


def cpu_s(work: Callable[[bytes], Any], files: list[bytes]) -> float:
    """Return the processor time that one file takes, in seconds."""
    start = time.process_time()
    for data in files:
        work(data)
    return (time.process_time() - start) / len(files)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=8)
    args = parser.parse_args()
    paths = sorted(path for path in args.folder.rglob("*") if path.is_file())
    paths = paths[:: max(1, len(paths) // args.pictures)][: args.pictures]
    warm_up()
    print("| kind | whole, ms | parts, ms | ratio |\n| --- | --- | --- | --- |")
    ratios = []
    for name in SURROUNDINGS:
        files = [distort(name, on_white(path), np.random.default_rng(n)) for n, path in enumerate(paths)]
        whole = cpu_s(from_image_bytes, files)
        parts = cpu_s(lambda data: read_query(data, turns="none", limits=DecodeLimits()), files) - whole
        ratios.append(parts / whole)
        print(f"| {name} | {1e3 * whole:.1f} | {1e3 * parts:.1f} | {parts / whole:.1f} |")
    print(
        f"\nparts take {np.mean(ratios):.1f} times as long as the whole on average, {max(ratios):.1f} at most"
    )


if __name__ == "__main__":
    main()
