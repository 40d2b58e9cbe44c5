"""The cost of a search for copies, and of the first search of `duplicates`, in plain queries of the same run.

    python -m benchmarks.copies_cost FOLDER [--images 1000000] [--rounds 3]

Claims
1. A search for the whole picture in all 8 turns and for 5 parts, 13 signatures, costs less than 6 plain
   queries for the top 10 at a million images.
2. The first search of duplicates, which is enough for most images of a store, costs less than a plain query.

Method: the standard workload (`benchmarks.index_workload`), an index built once and kept in FOLDER. Parts are
the signatures of other queries, like parts without a copy. CPU time of the querying thread
(`time.thread_time`), from signature to matches with their signatures; both kinds take turns in rounds. The
first search for an image asks whether there is another one above the minimum score. Groups are not measured:
in this workload a dozen images share each Y channel. The control is the plain query, top 10. Prints a
Markdown table; read the ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from api.search.duplicates import MIN_SCORE
from benchmarks import index_workload as workload
from iqdb_core.index import ImageIndex
from iqdb_core.model import QuerySignature, Rectangle, Signature
from iqdb_core.signature import turned
from iqdb_core.store import open_store

TOP = 10
QUERIES = 100
PARTS = 5
LOOKED_AT = 2_000
PER_IMAGES = 100_000
READ_CHANGES = 65_536
SIZE = 1000, 800
PART = Rectangle(200, 150, 600, 500)


def kinds_of(signatures: list[Signature], number: int) -> dict[str, list[QuerySignature]]:
    """Return the kinds of searches for a query, by their names in the table."""
    whole = QuerySignature(signatures[number], size=SIZE)
    others = [signatures[(number + step) % len(signatures)] for step in range(1, PARTS + 1)]
    parts = [QuerySignature(other, PART, size=SIZE) for other in others]
    return {
        "whole": [whole],
        "whole and mirror (2)": turned([whole], "mirror"),
        "whole in 8 turns (8)": turned([whole], "all"),
        "whole and 5 parts (6)": [whole, *parts],
        "whole in 8 turns and 5 parts (13)": [*turned([whole], "all"), *parts],
        "whole, 5 parts, mirrors (12)": turned([whole, *parts], "mirror"),
    }


def cpu_ms(work: Callable[[int], object], numbers: Sequence[int]) -> float:
    """Return the CPU time of this thread per call."""
    start = time.thread_time()
    for number in numbers:
        work(number)
    return (time.thread_time() - start) / len(numbers) * 1e3


def opened(folder: Path, n_images: int) -> tuple[ImageIndex, list[Signature]]:
    """Return the index, built if it does not exist yet, and the queries."""
    database, queries = workload.make_database(folder, n_images)
    store = open_store(f"sqlite:///{database}")
    index = ImageIndex.open(folder / f"{n_images}.copies", store_id=store.store_id)
    if index.image_count != n_images:
        index.reset()
        for batch in workload.batches_of(store, READ_CHANGES):
            index.apply(batch)
        index.maintain()
        index.save_checkpoint()
    return index, workload.read_queries(queries)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    workload.get_ready()
    index, signatures = opened(args.folder, args.images)
    asked = [kinds_of(signatures, number) for number in range(QUERIES)]
    plain: list[float] = []
    costs: dict[str, list[float]] = {kind: [] for kind in asked[0]}
    numbers = range(QUERIES)
    with index:
        for turn in range(args.rounds + 1):
            first = cpu_ms(lambda number: index.query(signatures[number], TOP), numbers)
            for kind, found in costs.items():
                cost = cpu_ms(
                    lambda number, kind=kind: index.find_copies(asked[number][kind], limit=TOP), numbers
                )
                if turn:  # the first round warms up
                    found.append(cost)
            if turn:
                plain += [first, cpu_ms(lambda number: index.query(signatures[number], TOP), numbers)]
        control = float(np.mean(plain))
        start = time.thread_time()
        for image_id in range(1, LOOKED_AT + 1):
            signature = index.get(image_id)
            if signature is not None:
                index.query(signature, 2, MIN_SCORE)
        look_ms = (time.thread_time() - start) / LOOKED_AT * 1e3
    print(f"| at {args.images:,} images | CPU, ms | in plain queries |\n| --- | --- | --- |")
    print(f"| plain query, top {TOP} | {control:.2f} | 1.0 |")
    for kind, found in costs.items():
        print(f"| {kind} | {np.mean(found):.2f} | {np.mean(found) / control:.1f} |")
    print(f"| first look of duplicates | {look_ms:.2f} | {look_ms / control:.2f} |")
    print(f"\nfirst look at {PER_IMAGES:,} images: {look_ms * PER_IMAGES / 1e3:.0f} s of one core")


if __name__ == "__main__":
    main()
