"""The first opening of an IQDB file: the cost of each step, and of later starts.

    python -m benchmarks.first_open FILE.sqlite [--repeat 3]

FILE is an IQDB file (a million rows, for example from a generator of realistic signatures); it is copied,
never changed. Each step runs in a process of its own, `--repeat` times; the best counts.

Claim: an IQDB file of a million images becomes a store and a searchable index, checkpoint included, in some
seven times the processor time in which SQLite hands a million rows to Python, and on two cores in some five
times the time of that scan; and a quarter cheaper and sooner than read twice, first for the store and
then for the index. Control, in the same run: `SELECT` of every column of every row, fetched into Python and
thrown away. All times are printed as multiples of it too, in processor seconds and in elapsed ones, per
million rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.compiling import Compilation

STEPS: Final = ("scan", "takeover", "feed", "reopen", "twice", "first_open")
_FETCH: Final = 512


def scan(path: Path) -> None:
    """Fetch every row: the control."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT id, post_id, avglf1, avglf2, avglf3, sig FROM images")
        while found.fetchmany(_FETCH):
            pass


def open_only(path: Path) -> None:
    """Open the store and close it: the takeover of an IQDB file, or else the cost of a restart."""
    from iqdb_core.store import open_store  # noqa: PLC0415 - imports are no part of another step's time

    open_store(str(path)).close()


def read_feed(path: Path) -> None:
    """Read the whole feed, like an index that starts empty."""
    from iqdb_core.store import open_store  # noqa: PLC0415

    with closing(open_store(str(path))) as store:
        cursor = 0
        while len(batch := store.changes_since(cursor, 65_536)):
            cursor = batch.last_seq


@functools.cache
def loaded() -> Compilation:
    """Return the compilation of a process that has loaded everything."""
    from iqdb_core.compiling import Compilation  # noqa: PLC0415

    compilation = Compilation(("index",), on_compiling=lambda: None, on_fast=lambda _: None)
    compilation.wait("index")
    return compilation


def index_of(path: Path) -> Path:
    """Return the index directory of a database."""
    return path.with_name(path.name + ".index")


def read_twice(path: Path) -> None:
    """Take the file over, then build the index from the feed."""
    from iqdb_core.follower import Follower  # noqa: PLC0415
    from iqdb_core.index import ImageIndex  # noqa: PLC0415
    from iqdb_core.store import open_store  # noqa: PLC0415

    with closing(open_store(str(path))) as store:
        index = ImageIndex.open(index_of(path), store_id=store.store_id)
        Follower(store, index, cursor=0, poll_s=1.0).catch_up()
        index.maintain()
        index.save_checkpoint()
        index.close()


def first_open(path: Path) -> None:
    """Take the file over and build the index in the same pass, like a server."""
    from api.roles.index_ahead import IndexAhead  # noqa: PLC0415
    from api.web.loading import Startup  # noqa: PLC0415
    from iqdb_core.settings import Settings  # noqa: PLC0415
    from iqdb_core.store import open_store  # noqa: PLC0415

    startup: Startup[None] = Startup()
    with startup.stack as stack:
        ahead = IndexAhead(Settings(database_url=str(path)), startup, loaded())
        store = stack.enter_context(closing(open_store(str(path), receiver=ahead)))
        index = ahead.taken()
        if index is None or index.applied_seq != store.head_seq():
            raise SystemExit("the index was not built ahead: are the kernels on disk?")
        index.maintain()
        index.save_checkpoint()
        index.close()


WORK: Final[dict[str, Callable[[Path], None]]] = {
    "scan": scan,
    "takeover": open_only,
    "feed": read_feed,
    "reopen": open_only,
    "twice": read_twice,
    "first_open": first_open,
}


def run_step(name: str, path: Path) -> None:
    """Do one step in this process and print its figures as JSON."""
    logging.disable()
    if name != "scan":
        import alembic.command  # noqa: F401, PLC0415 - a third of a second, whatever the number of rows

        import iqdb_core.index  # noqa: PLC0415
        import iqdb_core.store  # noqa: F401, PLC0415

        if name in {"twice", "first_open"}:
            import api.roles.index_ahead  # noqa: F401, PLC0415

            loaded()
    before = psutil.Process().memory_info().rss
    elapsed, cpu = time.perf_counter(), time.process_time()
    WORK[name](path)
    figures = {
        "elapsed_s": time.perf_counter() - elapsed,
        "cpu_s": time.process_time() - cpu,
        "rss_bytes": psutil.Process().memory_info().rss - before,
    }
    print(json.dumps(figures))


def measure(source: Path, repeat: int) -> dict[str, dict[str, float]]:
    """Return the best figures of each step."""
    best: dict[str, dict[str, float]] = {}
    # Kernels have to be on disk: otherwise the index is built afterwards.
    subprocess.run([sys.executable, "-m", "iqdb_core.compiling"], check=True)
    with tempfile.TemporaryDirectory(prefix="iqdb-first-open-") as folder:
        path = Path(folder) / "iqdb.sqlite"
        for _ in range(repeat):
            for name in STEPS:
                if name in {"scan", "takeover", "twice", "first_open"}:
                    for left in Path(folder).iterdir():
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                    shutil.copy(source, path)
                command = [sys.executable, "-m", "benchmarks.first_open", str(path), "--step", name]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                figures = json.loads(done.stdout)
                known = best.setdefault(name, figures)
                best[name] = {key: min(known[key], value) for key, value in figures.items()}
        best["disk"] = {
            "database_bytes": path.stat().st_size,
            "index_bytes": sum(
                each.stat().st_size for each in path.with_name(path.name + ".index").iterdir()
            ),
        }
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.file)
        return
    with closing(sqlite3.connect(arguments.file)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM images").fetchone()
    best = measure(arguments.file, arguments.repeat)
    millions = rows / 1e6
    control = best["scan"]
    print(f"{rows:,} images; per million, best of {arguments.repeat}; x is against the plain scan")
    print(f"{'step':12s} {'cpu s':>8s} {'x':>6s} {'elapsed s':>10s} {'x':>6s} {'bytes/image':>12s}")
    for name in STEPS:
        cpu, elapsed = best[name]["cpu_s"], best[name]["elapsed_s"]
        print(
            f"{name:12s} {cpu / millions:8.2f} {cpu / control['cpu_s']:6.1f} {elapsed / millions:10.2f}"
            f" {elapsed / control['elapsed_s']:6.1f} {best[name]['rss_bytes'] / rows:12.0f}"
        )
    size = arguments.file.stat().st_size
    added = best["disk"]["database_bytes"] - size
    print(
        f"disk: IQDB's file {size / rows:.0f} bytes per image, our tables in it {added / rows:.0f},"
        f" the index beside it {best['disk']['index_bytes'] / rows:.0f}"
    )


if __name__ == "__main__":
    main()
