"""Images per second through the distributed server, from HTTP to committed and findable.

Claim: with batches, throughput is set by decoding and hashing: at least 70 % of the pure hashing rate of the
same cores. Single adds cost one HTTP exchange and one round trip to Redis each on top.

Method: private Redis (append-only file, fsync always) and database, one api, one query node and one worker of
1 or 2 processes on this machine. N JPEGs of 200 kilopixels made by code are sent by 4 connections,
`wait=false`, as single adds or as batches of 50; the clock stops when `GET /status` shows N images. Latency:
at a quarter of the throughput of batches, from 202 until the job is shown as done, which is when queries find
the image. Control, in the same run: decoding and hashing the same files in as many processes, nothing else
running.

    python -m benchmarks.ingest [--images 1000] [--sqlite-only]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks.server import pictures
from iqdb_core.signature import from_image_bytes
from tests.fixtures.cluster import Cluster, running_cluster
from tests.fixtures.databases import PostgresServer, make_cluster

CONNECTIONS = 4
BATCH = 50
PAUSE_S = 0.01


def hash_all(files: list[bytes]) -> None:
    """Hash files one after the other."""
    for data in files:
        from_image_bytes(data)


def pure_rate(files: list[bytes], processes: int, total: int) -> float:
    """Return images hashed per second by `processes` processes that do nothing else."""
    share = (files * (total // len(files) + 1))[: total // processes]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(hash_all, [files[:1]] * processes)
        start = time.perf_counter()
        pool.map(hash_all, [share] * processes, chunksize=1)
        return len(share) * processes / (time.perf_counter() - start)


def send(cluster: Cluster, files: list[bytes], first: int, total: int, batch: int) -> None:
    """Send `total` images with ids from `first` on over several connections."""

    def one(start: int) -> None:
        numbers = range(start, min(start + batch, first + total))
        with_retry(clients.client, numbers)

    def with_retry(client: httpx.Client, numbers: range) -> None:
        while True:
            if batch == 1:
                data = files[numbers[0] % len(files)]
                answer = client.post(f"/images/{numbers[0]}?wait=false", files={"file": data})
            else:
                parts = [(str(number), ("a", files[number % len(files)])) for number in numbers]
                answer = client.post("/images?wait=false", files=parts)
            if answer.status_code == httpx.codes.ACCEPTED:
                return
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise SystemExit(answer.text)
            threading.Event().wait(PAUSE_S)

    clients = threading.local()

    def connect() -> None:
        clients.client = httpx.Client(base_url=cluster.apis[0].url, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS, initializer=connect) as threads:
        list(threads.map(one, range(first, first + total, batch)))


def throughput(cluster: Cluster, files: list[bytes], first: int, total: int, batch: int) -> float:
    """Return images per second from the first request until all are findable."""
    before = cluster.client.get("/status").json()["images"]
    start = time.perf_counter()
    send(cluster, files, first, total, batch)
    while cluster.client.get("/status").json()["images"] < before + total:
        threading.Event().wait(PAUSE_S)
    return total / (time.perf_counter() - start)


def latency(
    cluster: Cluster, files: list[bytes], first: int, per_second: float, seconds: float
) -> list[float]:
    """Return seconds from 202 until done and findable, for single adds at a steady rate."""
    found: list[float] = []

    def follow(number: int) -> None:
        answer = client.post(f"/images/{number}?wait=false", files={"file": files[number % len(files)]})
        start = time.perf_counter()
        while client.get(answer.headers["location"]).json()["state"] != "done":
            threading.Event().wait(PAUSE_S)
        found.append(time.perf_counter() - start)

    # One client for all: making one costs more processor time than everything that is measured here.
    with (
        httpx.Client(base_url=cluster.apis[0].url, timeout=60) as client,
        concurrent.futures.ThreadPoolExecutor(32) as threads,
    ):
        start = time.perf_counter()
        for number in range(int(per_second * seconds)):
            threading.Event().wait(max(0.0, start + number / per_second - time.perf_counter()))
            threads.submit(follow, first + number)
    return found


def measure(folder: Path, name: str, database: str, files: list[bytes], total: int) -> None:
    """Print the figures of one database."""
    first = 1
    for processes in (1, 2):
        pure = pure_rate(files, processes, total)
        settings: dict[str, Any] = {"IQDB_WORKER_PROCESSES": str(processes)}
        place = folder / f"{name}-{processes}"
        place.mkdir()
        with running_cluster(place, database, **settings) as cluster:
            throughput(cluster, files, first, 100, BATCH)
            first += 100
            for batch in (1, BATCH):
                rate = throughput(cluster, files, first, total, batch)
                first += total
                kind = "single adds" if batch == 1 else f"batches of {batch}"
                print(
                    f"{name}, {processes} worker processes, {kind}: {rate:6.0f} images/s"
                    f" = {rate / pure:.2f} of pure hashing ({pure:.0f})"
                )
            times = latency(cluster, files, first, rate / 4, 8)
            first += 10**6
            print(
                f"{name}, {processes} worker processes, single adds at {rate / 4:.0f}/s:"
                f" 202 to findable median {statistics.median(times) * 1000:.0f} ms,"
                f" p99 {sorted(times)[int(len(times) * 0.99)] * 1000:.0f} ms"
            )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--sqlite-only", action="store_true")
    options = parser.parse_args()
    files = pictures(40)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        measure(folder, "sqlite", str(folder / "bench.sqlite"), files, options.images)
        if not options.sqlite_only:
            # Durable as in production: the tests' server leaves fsync off.
            server = stack.enter_context(PostgresServer(make_cluster(), fsync="on", full_page_writes="on"))
            measure(folder, "postgres", stack.enter_context(server.fresh_database()), files, options.images)


if __name__ == "__main__":
    main()
