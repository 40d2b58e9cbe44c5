"""The cost of an image from HTTP to committed and findable, by role, and the share of hashing.

Claim: of the processor time that all roles together spend on an image, hashing it is at least 0.70 with
batches and 0.40 with single adds; Redis takes at most 0.4 ms. 100 single adds that wait for a worker become
at most 5 transactions.

Method: private Redis (configured as in docker-compose.yml) and database, one api, one query node and one
worker of 1 or 2 processes on this machine. N JPEGs of 200 kilopixels made by code are sent by 4 connections,
`wait=false`, as single adds, as batches of 50, or hashed already (`hash=`, batches of 500). Nothing starts
before every role has been at rest for a second, so that no compiling or loading is counted. The clock stops
when `GET /status` shows N images. Processor time is read from the operating system for each role; the
client's is separate and does not count. Control, just before each kind: decoding and hashing the same
files in as many processes, nothing else running: processor time per image, and images per second. Shares of
processor time hold on a busy machine, too; images per second only on a quiet one.

Before jobs were claimed (commit a231092, same machine, quiet): all roles 4.9 ms per image in batches and 14.0
ms as single adds, hashing 2.2 ms; 100 waiting single adds became 53 transactions.

Latency: at a quarter of the throughput of batches, from 202 until the job is shown as done, which is when
queries find the image.

    python -m benchmarks.ingest [--images 1000] [--sqlite-only | --postgres-only] [--no-latency]
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.server import pictures
from iqdb_core import codec
from iqdb_core.jobs import JobLedger, JobState, RedisPort
from iqdb_core.jobs.keys import DEFAULT_KEYS
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store
from tests.fixtures.cluster import Cluster, running_cluster
from tests.fixtures.databases import PostgresServer, initialised_cluster

CONNECTIONS = 4
BATCH = 50
HASHES = 500
PAUSE_S = 0.01
AT_REST_S = 0.1
ROLES = ("api", "redis", "worker", "query", "postgres", "client")


@dataclass(frozen=True)
class Pure:
    """Hashing and nothing else: processor milliseconds per image, images per second."""

    cpu_ms: float
    rate: float


def hash_all(files: list[bytes]) -> float:
    """Hash files one after the other and return the processor seconds that took."""
    start = time.process_time()
    for data in files:
        from_image_bytes(data)
    return time.process_time() - start


def measure_pure(files: list[bytes], processes: int, total: int) -> Pure:
    """Hash in `processes` processes that do nothing else."""
    share = (files * (total // len(files) + 1))[: total // processes]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(hash_all, [files[:1]] * processes)
        start = time.perf_counter()
        spent = pool.map(hash_all, [share] * processes, chunksize=1)
        images = len(share) * processes
        return Pure(1000 * sum(spent) / images, images / (time.perf_counter() - start))


class Meter:
    """Reads the processor time of every role.

    Parameters
    ----------
    cluster : Cluster
    postgres : PostgresServer or None
    """

    def __init__(self, cluster: Cluster, postgres: PostgresServer | None) -> None:
        self._pids = {
            "api": [server.process.pid for server in cluster.apis],
            "redis": [cluster.redis.pid],
            "worker": [worker.pid for worker in cluster.workers],
            "query": [server.process.pid for server in cluster.queries.values()],
            "postgres": [postgres.pid] if postgres is not None else [],
        }

    def read(self) -> dict[str, float]:
        """Return processor seconds so far, by role."""
        spent = {role: sum(map(tree_s, pids)) for role, pids in self._pids.items()}
        return {**spent, "client": time.process_time()}

    def wait_at_rest(self) -> None:
        """Wait until all roles are idle: kernels are loaded or compiled during the first work."""
        while True:
            before = self.read()
            threading.Event().wait(1)
            after = self.read()
            if all(after[role] - before[role] < AT_REST_S for role in ROLES):
                return


def tree_s(pid: int) -> float:
    """Return the processor seconds of a process and all its children, ended ones included."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    ended = own.children_user + own.children_system
    return own.user + own.system + ended + sum(tree_s(child.pid) for child in process.children())


def send(cluster: Cluster, bodies: list[dict[str, Any]]) -> None:
    """Send requests over several connections; each body has its path."""
    clients = threading.local()

    def connect() -> None:
        clients.client = httpx.Client(base_url=cluster.apis[0].url, timeout=60)

    def one(body: dict[str, Any]) -> None:
        while True:
            answer = clients.client.post(**body)
            if answer.status_code == httpx.codes.ACCEPTED:
                return
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise SystemExit(answer.text)
            threading.Event().wait(float(answer.headers["retry-after"]))

    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS, initializer=connect) as threads:
        list(threads.map(one, bodies))


def singles(files: list[bytes], first: int, total: int) -> list[dict[str, Any]]:
    """Return a request for each image."""
    return [
        {"url": f"/images/{number}?wait=false", "files": {"file": files[number % len(files)]}}
        for number in range(first, first + total)
    ]


def batches(files: list[bytes], first: int, total: int) -> list[dict[str, Any]]:
    """Return requests of 50 images."""
    return [
        {
            "url": "/images?wait=false",
            "files": [
                (str(number), ("a", files[number % len(files)]))
                for number in range(start, min(start + BATCH, first + total))
            ],
        }
        for start in range(first, first + total, BATCH)
    ]


def hashes(files: list[bytes], first: int, total: int) -> list[dict[str, Any]]:
    """Return requests of 500 images that the crawler has hashed itself."""
    texts = [codec.to_hash(from_image_bytes(data)) for data in files]
    return [
        {
            "url": "/images?wait=false",
            "json": {
                "images": [
                    {"post_id": number, "hash": texts[number % len(texts)]}
                    for number in range(start, min(start + HASHES, first + total))
                ]
            },
        }
        for start in range(first, first + total, HASHES)
    ]


def run(
    cluster: Cluster, meter: Meter, bodies: list[dict[str, Any]], total: int
) -> tuple[dict[str, float], float]:
    """Return processor milliseconds per image by role, and images per second until all are findable."""
    before = cluster.client.get("/status").json()["images"]
    spent = meter.read()
    start = time.perf_counter()
    send(cluster, bodies)
    while cluster.client.get("/status").json()["images"] < before + total:
        threading.Event().wait(5 * PAUSE_S)
    rate = total / (time.perf_counter() - start)
    after = meter.read()
    return {role: 1000 * (after[role] - spent[role]) / total for role in ROLES}, rate


def transactions(cluster: Cluster, files: list[bytes], first: int) -> int:
    """Return how many transactions 100 waiting single adds become.

    A claim is one transaction and is finished by one script, so the scores that its jobs get in the list of
    finished jobs are microseconds apart.
    """
    for worker in cluster.workers:
        worker.kill()
    ledger = JobLedger(RedisPort.connect(cluster.redis.url))
    send(cluster, singles(files, first, 100))
    finished: set[float] = set()
    for worker in cluster.workers:
        worker.start().wait_ready()
    while ledger.depth().queued + ledger.depth().running:
        threading.Event().wait(PAUSE_S)
    last = float("-inf")
    done = f"{DEFAULT_KEYS.prefix}jobs:{JobState.DONE}"
    for _, place in cluster.redis.client().zrange(done, -100, -1, withscores=True):
        if place - last > 1000:
            finished.add(place)
        last = place
    ledger.close()
    return len(finished)


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

    # One client for all: creating one costs more processor time than everything measured here.
    with (
        httpx.Client(base_url=cluster.apis[0].url, timeout=60) as client,
        concurrent.futures.ThreadPoolExecutor(32) as threads,
    ):
        start = time.perf_counter()
        for number in range(int(per_second * seconds)):
            threading.Event().wait(max(0.0, start + number / per_second - time.perf_counter()))
            threads.submit(follow, first + number)
    return found


def measure(
    folder: Path, name: str, database: str, postgres: PostgresServer | None, options: argparse.Namespace
) -> None:
    """Print the figures of one database."""
    files = pictures(40)
    open_store(database).close()
    first = 1
    for processes in (1, 2):
        settings: dict[str, Any] = {"IQDB_WORKER_PROCESSES": str(processes)}
        place = folder / f"{name}-{processes}"
        place.mkdir()
        print(f"\n{name}, {processes} worker processes; ms of processor time per image")
        print("| | " + " | ".join(ROLES) + " | all but client | hashing alone | share | images/s | of pure |")
        print("|---" * (len(ROLES) + 6) + "|")
        with running_cluster(place, database, **settings) as cluster:
            meter = Meter(cluster, postgres)
            run(cluster, meter, batches(files, first, 200), 200)
            meter.wait_at_rest()
            first += 200
            rate = 0.0
            for kind, make, total in (
                ("single adds", singles, options.images),
                ("batches of 50", batches, options.images),
                ("hashes, 500 each", hashes, 4 * options.images),
            ):
                pure = measure_pure(files, processes, options.images // 2)
                meter.wait_at_rest()
                spent, rate_of_kind = run(cluster, meter, make(files, first, total), total)
                first += total
                roles_ms = sum(spent.values()) - spent["client"]
                share = "" if make is hashes else f"{pure.cpu_ms:.2f} | {pure.cpu_ms / roles_ms:.2f}"
                share = share or " | "
                row = " | ".join(f"{spent[role]:.2f}" for role in ROLES)
                of_pure = "" if make is hashes else f"{rate_of_kind / pure.rate:.2f}"
                print(f"| {kind} | {row} | {roles_ms:.2f} | {share} | {rate_of_kind:.0f} | {of_pure} |")
                rate = rate_of_kind if make is batches else rate
            print(f"100 waiting single adds: {transactions(cluster, files, first)} transactions")
            first += 100
            if not options.no_latency:
                times = latency(cluster, files, first, rate / 4, 8)
                print(
                    f"single adds at {rate / 4:.0f}/s, 202 to findable: median"
                    f" {statistics.median(times) * 1000:.0f} ms,"
                    f" p99 {sorted(times)[int(len(times) * 0.99)] * 1000:.0f} ms"
                )
            first += 10**6


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--sqlite-only", action="store_true")
    parser.add_argument("--postgres-only", action="store_true")
    parser.add_argument("--no-latency", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        if not options.postgres_only:
            measure(folder, "sqlite", str(folder / "bench.sqlite"), None, options)
        if not options.sqlite_only:
            # Durable as in production: the tests' server leaves fsync off.
            data = stack.enter_context(initialised_cluster())
            server = stack.enter_context(PostgresServer(data, fsync="on", full_page_writes="on"))
            database = stack.enter_context(server.fresh_database())
            measure(folder, "postgres", database, server, options)


if __name__ == "__main__":
    main()
