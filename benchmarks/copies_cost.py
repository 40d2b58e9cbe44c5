"""The cost of a search for copies, and of the first search of `duplicates`, in plain queries of the same run.

    python -m benchmarks.copies_cost FOLDER [--images 1000000] [--rounds 3]

Claims
1. A search for the whole picture in all 8 turns and for 5 parts, 13 signatures, costs less than 6 plain
   queries for the top 10 at a million images.
2. The first search of duplicates, which is enough for most images of a store, costs less than a plain query.
3. The second and third page of ten cost less than half more than the first.

Method: the standard workload (`benchmarks.index_workload`), an index built once and kept in FOLDER. Parts and
uncropped pictures are the signatures of other queries, like those without a copy. CPU time of the querying
thread (`time.thread_time`), from signature to matches with their signatures; both kinds take turns in rounds.
The first search for an image asks whether there is another one above the minimum score. Groups are not
measured: in this workload a dozen images share each Y channel. The control is the plain query, top 10. Prints
a Markdown table; read the ratios.
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
PAGED = "whole and mirror (2)"
OFFSETS = 10, 30, 100, 320
"""Pages of ten that need the second, third, fourth and fifth round; see `evidence.candidates`."""
QUERIES = 100
PARTS = 5
UNCROPPED = 15
FIRST_SEARCHES = 2_000
PER_IMAGES = 100_000
READ_CHANGES = 65_536
SIZE = 1000, 800
PART = Rectangle(200, 150, 600, 500)
LARGER = Rectangle(-200, -150, 1400, 1100)


def kinds_of(signatures: list[Signature], number: int) -> dict[str, list[QuerySignature]]:
    """Return the kinds of searches for a query, by their names in the table."""
    whole = QuerySignature(signatures[number], size=SIZE)
    others = [signatures[(number + step) % len(signatures)] for step in range(1, PARTS + UNCROPPED + 1)]
    parts = [QuerySignature(other, PART, size=SIZE) for other in others[:PARTS]]
    larger = [QuerySignature(other, LARGER, size=SIZE) for other in others[PARTS:]]
    return {
        "whole": [whole],
        PAGED: turned([whole], "mirror"),
        "whole in 8 turns (8)": turned([whole], "all"),
        "whole and 5 parts (6)": [whole, *parts],
        "whole in 8 turns and 5 parts (13)": [*turned([whole], "all"), *parts],
        "whole, 5 parts, mirrors (12)": turned([whole, *parts], "mirror"),
        "whole, mirror, 15 uncropped (17)": turned([whole, *larger], "mirror"),
        "whole, 5 parts, mirrors, 15 uncropped (27)": turned([whole, *parts, *larger], "mirror"),
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
    searches = {kind: (kind, 0) for kind in asked[0]}
    searches |= {f"{PAGED}, from match {offset + 1}": (PAGED, offset) for offset in OFFSETS}
    costs: dict[str, list[float]] = {name: [] for name in searches}
    numbers = range(QUERIES)
    with index:
        for turn in range(args.rounds + 1):
            first = cpu_ms(lambda number: index.query(signatures[number], TOP), numbers)
            for name, (kind, offset) in searches.items():
                cost = cpu_ms(
                    lambda number, kind=kind, offset=offset: index.find_copies(
                        asked[number][kind], limit=TOP, offset=offset
                    ),
                    numbers,
                )
                if turn:  # the first round warms up
                    costs[name].append(cost)
            if turn:
                plain += [first, cpu_ms(lambda number: index.query(signatures[number], TOP), numbers)]
        control = float(np.mean(plain))
        start = time.thread_time()
        for image_id in range(1, FIRST_SEARCHES + 1):
            signature = index.get(image_id)
            if signature is not None:
                index.query(signature, 2, MIN_SCORE)
        first_ms = (time.thread_time() - start) / FIRST_SEARCHES * 1e3
    print(f"| at {args.images:,} images | CPU, ms | in plain queries |\n| --- | --- | --- |")
    print(f"| plain query, top {TOP} | {control:.2f} | 1.0 |")
    for name, found in costs.items():
        print(f"| {name} | {np.mean(found):.2f} | {np.mean(found) / control:.1f} |")
    print(f"| first search of duplicates, per image | {first_ms:.2f} | {first_ms / control:.2f} |")
    print(f"\nfirst search for {PER_IMAGES:,} images: {first_ms * PER_IMAGES / 1e3:.0f} s of one core")


if __name__ == "__main__":
    main()
