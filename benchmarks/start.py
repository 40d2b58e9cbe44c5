"""How soon a server answers, and its memory: first start, later ones, with images and without.

Claim: on a machine that has compiled nothing an empty `iqdb http` gives its first right answer within 10
seconds and is at full speed within 40; with kernels on disk it answers within 1.5 seconds; it holds less than
200 MB after a first start and 160 MB after a later one. With an IQDB file of N images it answers as soon as
these are loaded, and started again as soon as the index is read from its checkpoint.

Method: each figure is a server process of its own, started from nothing but its files, timed from its start
to the first right answer to a query; the median of `--repeat`. "Nothing compiled" is an empty
NUMBA_CACHE_DIR. Memory is resident memory of the server process when it has gone over to compiled code and
has nothing more to do. Control, in the same run: `python -c "import fastapi, sqlalchemy, numpy"`,
which no server in Python is faster than; times are printed as multiples of it, too.

    python -m benchmarks.start [--repeat 5] [--file IQDB.sqlite]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL = "import fastapi, sqlalchemy, numpy"
MEBIBYTE = 1 << 20
FAST_S = 600
PICTURE = b"P6 2 2 255 " + bytes(range(12))


class Server:
    """One `iqdb http` in a process of its own; times are seconds since its start."""

    def __init__(self, database: Path, cache: Path) -> None:
        self.log = database.with_suffix(".log").open("w+b")
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api", "http", "127.0.0.1", "0", str(database)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("iqdb: ready"):
            raise SystemExit(f"no server: {Path(self.log.name).read_text()}")
        self.port = int(line.split()[3].rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes | None = None) -> object:
        """Return the answer to one request."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(
                method, path, body, {"Content-Type": "image/x-portable-pixmap"} if body else {}
            )
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise SystemExit(f"{method} {path}: {answer.status}")
            return json.load(answer)

    def answered_s(self, hash_text: str, image_id: int) -> float:
        """Ask for one signature, and return when the right answer was there."""
        [best] = self.ask("POST", f"/query?limit=1&hash={hash_text}")  # type: ignore[misc]
        if best["score"] < 99.9 or (image_id and best["post_id"] != image_id):
            raise SystemExit(f"a wrong answer: {best}")
        return time.perf_counter() - self.begin

    def fast_s(self) -> float:
        """Return when compiled code is in use: the server has mapped the compiler's library, and is idle."""
        process = psutil.Process(self.process.pid)
        while time.perf_counter() - self.begin < FAST_S:
            with suppress(psutil.Error):
                mapped = any("llvmlite" in part.path for part in process.memory_maps())
                if mapped and not process.children() and process.cpu_percent(0.3) < 5:
                    return time.perf_counter() - self.begin - 0.3
            time.sleep(0.05)
        raise SystemExit("never at full speed")

    def resident_mb(self) -> float:
        """Return the resident memory of the process."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / MEBIBYTE

    def stop(self) -> None:
        """End it by SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120):
            raise SystemExit("the server did not end well")
        self.log.close()


def some_signature(database: Path) -> tuple[str, int]:
    """Return the hash and id of one image of an IQDB file."""
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute("SELECT avglf1, avglf2, avglf3, sig, post_id FROM images LIMIT 1").fetchone()
    return from_row(row), row[4]


def from_row(row: tuple[float, float, float, bytes, int]) -> str:
    """Return a row's hash; imported late, so that nothing is warm before it is measured."""
    from iqdb_core import codec  # noqa: PLC0415
    from iqdb_core.model import Signature  # noqa: PLC0415

    return codec.to_hash(Signature(row[:3], row[3]))


def empty_start(folder: Path, cache: Path) -> dict[str, float]:
    """Start without images; add one and ask for it."""
    server = Server(folder / "empty.sqlite", cache)
    added = server.ask("POST", "/images/1", PICTURE)
    answered = server.answered_s(added["hash"], 1)  # type: ignore[index]
    figures = {"answers": answered, "full speed": server.fast_s(), "resident MB": server.resident_mb()}
    server.stop()
    return figures


def start_with(database: Path, cache: Path, asked: tuple[str, int]) -> dict[str, float]:
    """Start with images and ask for one of them."""
    server = Server(database, cache)
    figures = {"answers": server.answered_s(*asked), "full speed": server.fast_s()}
    figures["resident MB"] = server.resident_mb()
    server.stop()
    return figures


def median_of(repeat: int, measure: Callable[[Path], dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure, each time in a fresh folder."""
    runs = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(prefix="iqdb-start-") as folder:
            runs.append(measure(Path(folder)))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def control(_: Path) -> dict[str, float]:
    """Start Python and import the modules that every part of the server needs."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", CONTROL], check=True)
    return {"answers": time.perf_counter() - begin}


def print_row(name: str, figures: dict[str, float], base: float) -> None:
    """Print one line."""
    parts = [f"answers after {figures['answers']:6.2f} s ({figures['answers'] / base:5.1f} x control)"]
    if "full speed" in figures:
        parts.append(f"full speed after {figures['full speed']:5.1f} s")
    if "resident MB" in figures:
        parts.append(f"resident {figures['resident MB']:.0f} MB")
    print(f"{name:34}", "  ".join(parts), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--file", type=Path, help="an IQDB file; copied, never changed")
    options = parser.parse_args()
    base = median_of(options.repeat, control)["answers"]
    print_row("control: imports alone", {"answers": base}, base)
    print_row(
        "first start, nothing compiled",
        median_of(options.repeat, lambda f: empty_start(f, f / "cache")),
        base,
    )
    with tempfile.TemporaryDirectory(prefix="iqdb-kernels-") as kept:
        cache = Path(kept)
        subprocess.run(
            [sys.executable, "-m", "iqdb_core.compiling"],
            check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": kept},
        )
        print_row("start, kernels on disk", median_of(options.repeat, lambda f: empty_start(f, cache)), base)
        if options.file is None:
            return
        asked = some_signature(options.file)

        def first_open(folder: Path) -> dict[str, float]:
            shutil.copyfile(options.file, folder / "x.sqlite")
            return start_with(folder / "x.sqlite", cache, asked)

        print_row("first open of the file", median_of(options.repeat, first_open), base)
        with tempfile.TemporaryDirectory(prefix="iqdb-start-") as folder:
            database = Path(folder) / "x.sqlite"
            shutil.copyfile(options.file, database)
            start_with(database, cache, asked)
            print_row(
                "start with the file again",
                median_of(options.repeat, lambda _: start_with(database, cache, asked)),
                base,
            )
            size = options.file.stat().st_size
            held = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            print(f"on disk {held / MEBIBYTE:.0f} MB, {held / size:.2f} x the file")


if __name__ == "__main__":
    main()
