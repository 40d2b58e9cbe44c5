"""How many images per second one Redis and one Postgres carry if hashing costs nothing.

Claim: on enough cores, 64 workers claim, commit and finish 10,000 images per second together.

Method: 64 claimants, threads of as many processes as there are cores, claim jobs with ready-made signatures
from one private Redis (append-only file, fsync always), 32 at a time, commit them to one private database and
end the claims, until nothing is left. First without the database, then with it. On few cores the claimants'
own Python is the limit; therefore the processor time of Redis and of the database is read, from which the
limit of each follows: Redis runs its scripts on one core, and the database commits one transaction at a time.
On a busy machine of 2 cores: Redis 34 to 55 us per image, so 18,000 to 29,000 images per second and core;
Postgres 131 us with 64 claimants, 7,600 images per second and core, and 40 us with one. The claim holds for
Redis, and not for Postgres.

    python -m benchmarks.claims [--images 20000] [--sqlite]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

from benchmarks.ingest import tree_s
from iqdb_core import codec
from iqdb_core.jobs import Done, JobLedger, QueueLimits, RedisPort, Submission, WorkLedger
from iqdb_core.model import Signature, Write
from iqdb_core.store import open_store
from tests.fixtures.databases import PostgresServer, initialised_cluster
from tests.fixtures.redis import RedisServer

CLAIMANTS = 64
SLICE = 1000


def signatures(count: int) -> list[Signature]:
    """Return signatures of noise."""
    rng = np.random.default_rng(7)
    averages = rng.uniform(0, 1, (count, 3))
    signs = rng.choice([-1, 1], (count, 3, 40))
    places = np.sort(rng.integers(1, 16384, (count, 3, 40)) * signs).astype("<i2")
    return [
        Signature((float(a[0]), float(a[1]), float(a[2])), place.tobytes())
        for a, place in zip(averages, places, strict=True)
    ]


def fill(redis_url: str, first: int, count: int) -> None:
    """Queue `count` images."""
    ledger = JobLedger(
        RedisPort.connect(redis_url), limits=QueueLimits(max_jobs=10**7), revision_floor=lambda: 0
    )
    ready = signatures(SLICE)
    for start in range(first, first + count, SLICE):
        ledger.accept([Submission.of_signature(start + number, one) for number, one in enumerate(ready)])
    ledger.close()


def work(redis_url: str, database_url: str, threads: int) -> None:
    """Claim, commit and finish in `threads` threads until nothing is left; without a database, no commit."""
    port = RedisPort.connect(redis_url)
    store = open_store(database_url) if database_url else None

    def one() -> None:
        ledger = WorkLedger(port)
        claim = ledger.claim()
        while claim.jobs:
            pairs = [(job, codec.from_bytes(job.payload)) for job in claim.jobs]
            if store is not None:
                store.apply([Write(job.image_id, job.revision, signature) for job, signature in pairs])
            claim = ledger.finish_and_claim(
                claim, [Done(job.job_id, 1, signature) for job, signature in pairs]
            )

    running = [threading.Thread(target=one) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    port.close()
    if store is not None:
        store.close()


def measure(name: str, redis: RedisServer, database_url: str, pids: dict[str, int], images: int) -> None:
    """Print one row for 64 claimants and one for a single one."""
    for claimants in (CLAIMANTS, 1):
        count = images if claimants > 1 else images // 4
        fill(redis.url, 1, count)
        processes = min(claimants, os.cpu_count() or 1)
        before = {role: tree_s(pid) for role, pid in pids.items()}
        start = time.perf_counter()
        workers = [
            multiprocessing.get_context("spawn").Process(
                target=work, args=(redis.url, database_url, claimants // processes)
            )
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - start
        spent = {role: 1e6 * (tree_s(pid) - before[role]) / count for role, pid in pids.items()}
        parts = ", ".join(
            f"{role} {us:.0f} us per image (one core: {1e6 / us:,.0f}/s)" for role, us in spent.items() if us
        )
        print(f"{name}, {claimants} claimants: {count / seconds:,.0f} images/s; {parts}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--sqlite", action="store_true", help="SQLite instead of Postgres")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.kill)
        print(f"{psutil.cpu_count()} cores")
        measure("ledger alone", redis, "", {"redis": redis.pid}, options.images)
        if options.sqlite:
            database = str(folder / "claims.sqlite")
            open_store(database).close()
            measure("ledger and SQLite", redis, database, {"redis": redis.pid}, options.images)
            return
        data = stack.enter_context(initialised_cluster())
        server = stack.enter_context(PostgresServer(data, fsync="on", full_page_writes="on"))
        database = stack.enter_context(server.fresh_database())
        open_store(database).close()
        pids = {"redis": redis.pid, "postgres": server.pid}
        measure("ledger and Postgres", redis, database, pids, options.images)


if __name__ == "__main__":
    main()
