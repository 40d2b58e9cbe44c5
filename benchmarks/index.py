"""The index from build to churn: query time, memory, build, restart, updates, at several sizes.

Claims
1. A query on one core is at least 6 times faster than the family's algorithm (the control: float32 bucket
   scan over every image, compiled the same way) at a million images, and the ratio does not fall with their
   number.
2. At most 200 bytes of resident memory per image, 300 at any moment, from a million images on.
3. Cold build from SQLite below 2 s per million images, restart from a checkpoint below 0.3 s.
4. At 1 million images, 2,000 adds and 500 deletes a second leave the p99 of queries below twice its value
   at rest, and every write is visible within 50 ms. After every image was replaced once, memory is that of a
   fresh build.

Method: the standard workload (`make_signatures.py`; a third of its queries are near copies of stored images,
the rest strangers), each stage in a process of its own, top 10 of each query. Query time counts everything
from signature to matches with their signatures. Databases and checkpoints are in the page cache when they are
opened. Memory is VmRSS less that of the same process before its index, with every kernel loaded; peaks are
VmHWM. "Updating" queries one after the other in one thread while a second thread writes 20 batches a second
and maintenance merges, compacts and saves a checkpoint aside. Churn replaces images in random order as fast
as it goes. Control of the update run: the same queries at rest, in the same process. Times depend on what
else the machine does: read the ratios.

    python -m benchmarks.index [--images 100000 1000000 4000000] [--folder FOLDER] [--plot FILE.png]

FOLDER keeps databases between runs (0.6 GB per million images).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.index_workload import make_database

FIRST_QUERIES = ("first_query", "same_query_again", "median_query")
UPDATES_AT = 1_000_000
"""The size at which updates and churn are measured."""
Figures = dict[str, Any]


def run(module: str, *arguments: str | Path) -> Figures:
    """Run one stage in a process of its own and return what it printed last."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"  {module} {arguments[0]}: {json.dumps(figures)}", file=sys.stderr)
    return figures


def measure(folder: Path, n_images: int) -> Figures:
    """Return the figures of all stages at one size."""
    database, queries = make_database(folder, n_images)
    directory = folder / f"{n_images}.index"
    shutil.rmtree(directory, ignore_errors=True)
    figures: Figures = {
        "build": run("index_life", "build", database, queries, directory),
        "restart": run("index_life", "restart", database, queries, directory),
        "scan": run("index_query", database, queries, directory),
    }
    if n_images == UPDATES_AT:
        for stage in ("updates", "churn"):
            copy = folder / f"{n_images}.{stage}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(directory, copy)
            figures[stage] = run("index_life", stage, database, queries, copy)
            shutil.rmtree(copy)
    shutil.rmtree(directory)
    return figures


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def query_table(measured: dict[int, Figures]) -> str:
    """Return the table of query times."""
    rows = []
    for n_images, figures in measured.items():
        scan = figures["scan"]
        rows.append(
            [
                f"{n_images:,}",
                f"{scan['mean_ms']:.2f} / {scan['p50_ms']:.2f} / {scan['p99_ms']:.2f}",
                f"{scan['all_cores_mean_ms']:.2f}",
                f"{scan['clients_mean_ms']:.2f} / {scan['clients_p99_ms']:.1f}",
                f"{scan['control_mean_ms']:.1f}",
                f"{scan['control_mean_ms'] / scan['mean_ms']:.1f}",
                f"{scan['limit_ms'] / scan['mean_ms']:.0%}",
            ]
        )
    heads = ["images", "ms per query, one core: mean / p50 / p99", "all cores", "8 clients: per query / p99"]
    return table([*heads, "control", "times faster", "memory's limit"], rows)


def pruning_table(measured: dict[int, Figures]) -> str:
    """Return the table of query times by `min_score`."""
    scores = list(next(iter(measured.values()))["scan"]["min_score_ms"])
    rows = [
        [f"{n_images:,}", f"{figures['scan']['mean_ms']:.2f}"]
        + [f"{figures['scan']['min_score_ms'][score]:.2f}" for score in scores]
        for n_images, figures in measured.items()
    ]
    return table(["images", "ms, all scores", *(f"from {score}" for score in scores)], rows)


def life_table(measured: dict[int, Figures]) -> str:
    """Return the table of memory, build and restart."""
    rows = []
    for n_images, figures in measured.items():
        build, restart = figures["build"], figures["restart"]
        after = f"{build['bytes_per_image']:.0f} / {restart['bytes_per_image']:.0f}"
        rows.append(
            [
                f"{n_images:,}",
                f"{after} / {build['peak_bytes_per_image']:.0f}",
                f"{build['build_s_per_million']:.2f}",
                f"{restart['restart_s_per_million']:.2f}",
                f"{build['save_s_per_million']:.2f}",
                " / ".join(f"{restart[f'{which}_ms']:.1f}" for which in FIRST_QUERIES),
            ]
        )
    heads = ["images", "bytes per image: built / restarted / peak", "build, s per million"]
    return table(
        [*heads, "restart", "save", "ms: first query / the same again / median of the next 200"], rows
    )


def update_table(figures: Figures) -> str:
    """Return the table of updates, saving and churn."""
    build, updates, churn = figures["build"], figures["updates"], figures["churn"]
    visible = [f"{updates[f'visible_{share}_ms']:.1f}" for share in ("p50", "p99", "max")]
    churned = [f"{churn[f'bytes_per_image_{when}']:.0f}" for when in ("before", "after")]
    rows = [
        ["p99 of queries while updating, over that at rest", f"{updates['p99_ratio']:.2f}"],
        ["ms until a write is visible: p50 / p99 / longest", " / ".join(visible)],
        ["p99 of queries while saving / at rest, ms", f"{build['p99_ms_while_saving']:.1f}"],
        ["images replaced per second, as fast as it goes", f"{churn['replacements_per_s']:,.0f}"],
        ["bytes per image before / after every image was replaced", " / ".join(churned)],
        ["bytes per image at most, updating", f"{updates['peak_bytes_per_image']:.0f}"],
        ["bytes per image at most, replacing", f"{churn['peak_bytes_per_image']:.0f}"],
    ]
    rows[2][1] += f" / {build['p99_ms_at_rest']:.1f}"
    return table([f"at {UPDATES_AT:,} images", ""], rows)


def plot(measured: dict[int, Figures], path: Path) -> None:
    """Draw query time over the number of images, ours and the control's."""
    import matplotlib as mpl  # noqa: PLC0415 - only who asks for a plot needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of backend

    sizes = list(measured)
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for key, label in (
        ("control_mean_ms", "control: bucket scan, one core"),
        ("mean_ms", "one core"),
        ("all_cores_mean_ms", "one client, all cores"),
        ("clients_mean_ms", "8 clients, all cores"),
    ):
        axes.plot(sizes, [measured[size]["scan"][key] for size in sizes], marker="o", label=label)
    for score in next(iter(measured.values()))["scan"]["min_score_ms"]:
        times = [measured[size]["scan"]["min_score_ms"][score] for size in sizes]
        axes.plot(sizes, times, marker=".", linestyle=":", label=f"one core, scores from {score}")
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="ms per query (mean, top 10)")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print the tables, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000, 4_000_000])
    parser.add_argument("--folder", type=Path, help="keeps databases between runs; default: a temporary one")
    parser.add_argument("--plot", type=Path, help="PNG of query time over the number of images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measured = {n_images: measure(folder, n_images) for n_images in arguments.images}
    print(query_table(measured), pruning_table(measured), life_table(measured), sep="\n\n")
    if UPDATES_AT in measured:
        print("\n" + update_table(measured[UPDATES_AT]))
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
