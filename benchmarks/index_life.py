"""The life of an index, each stage in a process of its own: build, restart, updates, churn.

    python -m benchmarks.index_life STAGE DATABASE QUERIES DIRECTORY

Prints one JSON object. Called by `benchmarks.index`, which says what the stages claim.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import index_workload as workload
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.index.simd.memory import release_free_memory
from iqdb_core.store import open_store
from tests.fixtures.followers import wait_applied

if TYPE_CHECKING:
    from collections.abc import Callable

    from iqdb_core.model import ChangeBatch, Signature

ADDS_PER_S = 2_000
DELETES_PER_S = 500
WRITES_PER_S = 20
REST_S = 12.0
UPDATE_S = 40.0
CHURN_BATCH = 5_000
Result = dict[str, float | int | None]


class Queries(threading.Thread):
    """Runs one query after the other and notes how long each took."""

    def __init__(self, index: ImageIndex, signatures: list[Signature]) -> None:
        super().__init__(daemon=True)
        self.index = index
        self.signatures = signatures
        self.stopping = threading.Event()
        self.times_s: list[float] = []

    def run(self) -> None:
        """Query until `finish` is called."""
        turn = 0
        while not self.stopping.is_set():
            start = time.perf_counter()
            self.index.query(self.signatures[turn % len(self.signatures)])
            self.times_s.append(time.perf_counter() - start)
            turn += 1

    def finish(self) -> list[float]:
        """Return the times."""
        self.stopping.set()
        self.join()
        return self.times_s


def during(index: ImageIndex, signatures: list[Signature], work: Callable[[], object]) -> list[float]:
    """Return the times of the queries that ran while `work` did."""
    queries = Queries(index, signatures)
    queries.start()
    work()
    return queries.finish()


def milliseconds(times_s: list[float], share: float) -> float:
    """Return a quantile."""
    return float(np.quantile(times_s, share)) * 1e3


def build(database: Path, queries: Path, directory: Path) -> Result:
    """Fill an empty index from the store, save it while queries run."""
    signatures = workload.read_queries(queries)
    store = open_store(f"sqlite:///{database}")
    workload.get_ready()
    workload.bring_into_page_cache(database)
    empty = workload.resident_bytes()
    workload.forget_peak()
    index = ImageIndex.open(directory, store_id=store.store_id)
    follower = Follower(store, index, cursor=0, poll_s=1.0)
    start = time.perf_counter()
    follower.catch_up()
    build_s = time.perf_counter() - start
    n = index.image_count
    peak = workload.peak_bytes() - empty
    index.query(signatures[0])
    index.maintain()
    full = workload.resident_bytes() - empty
    rest = during(index, signatures, lambda: time.sleep(REST_S / 3))
    start = time.perf_counter()
    saving = during(index, signatures, index.save_checkpoint)
    save_s = time.perf_counter() - start
    stats = index.stats()
    index.close()
    return {
        "images": n,
        "build_s_per_million": build_s / n * 1e6,
        "bytes_per_image": full / n,
        "peak_bytes_per_image": peak / n,
        "counted_bytes_per_image": stats.resident_bytes / n,
        "save_s_per_million": save_s / n * 1e6,
        "p99_ms_at_rest": milliseconds(rest, 0.99),
        "p99_ms_while_saving": milliseconds(saving, 0.99),
    }


def restart(database: Path, queries: Path, directory: Path) -> Result:
    """Open the saved index; time the first query and later ones."""
    signatures = workload.read_queries(queries)
    store = open_store(f"sqlite:///{database}")
    workload.get_ready()
    empty = workload.resident_bytes()
    workload.forget_peak()
    start = time.perf_counter()
    index = ImageIndex.open(directory, store_id=store.store_id)
    restart_s = time.perf_counter() - start
    times = []
    for signature in signatures[:1] + signatures[:200]:
        start = time.perf_counter()
        index.query(signature)
        times.append(time.perf_counter() - start)
    n = index.image_count
    result: Result = {
        "restart_s_per_million": restart_s / n * 1e6,
        "bytes_per_image": (workload.resident_bytes() - empty) / n,
        "peak_bytes_per_image": (workload.peak_bytes() - empty) / n,
        "first_query_ms": times[0] * 1e3,
        "same_query_again_ms": times[1] * 1e3,
        "median_query_ms": milliseconds(times[1:], 0.5),
    }
    index.close()
    return result


def updates(database: Path, queries: Path, directory: Path) -> Result:
    """Add and delete at a steady rate, with maintenance and a checkpoint, while queries run."""
    signatures = workload.read_queries(queries)
    store = open_store(f"sqlite:///{database}")
    workload.get_ready()
    empty = workload.resident_bytes()
    index = ImageIndex.open(directory, store_id=store.store_id)
    index.start_maintenance()
    rest = during(index, signatures, lambda: time.sleep(REST_S))
    source = next(workload.batches_of(store, 65_536))
    feed = workload.MemoryFeed(index.applied_seq)
    follower = Follower(feed, index, cursor=index.applied_seq, poll_s=0.05)
    follower.start()
    workload.forget_peak()
    delays: list[float] = []
    busy = during(index, signatures, lambda: delays.extend(_write(index, follower, feed, source)))
    follower.stop()
    stats = index.stats()
    result: Result = {
        "p50_ms_at_rest": milliseconds(rest, 0.5),
        "p99_ms_at_rest": milliseconds(rest, 0.99),
        "p50_ms_updating": milliseconds(busy, 0.5),
        "p99_ms_updating": milliseconds(busy, 0.99),
        "p99_ratio": milliseconds(busy, 0.99) / milliseconds(rest, 0.99),
        "visible_p50_ms": milliseconds(delays, 0.5),
        "visible_p99_ms": milliseconds(delays, 0.99),
        "visible_max_ms": max(delays) * 1e3,
        "peak_bytes_per_image": (workload.peak_bytes() - empty) / index.image_count,
        "images": stats.images,
        "segments": stats.segments,
        "dead_images": stats.dead_images,
    }
    index.close()
    return result


def _write(
    index: ImageIndex, follower: Follower, feed: workload.MemoryFeed, source: ChangeBatch
) -> list[float]:
    """Add and delete at a steady rate, save halfway, and return how long each write took to be visible."""
    n, adds, deletes = index.image_count, ADDS_PER_S // WRITES_PER_S, DELETES_PER_S // WRITES_PER_S
    victims = np.random.default_rng(1).permutation(np.arange(1, n + 1))
    saver = threading.Thread(target=index.save_checkpoint)
    delays: list[float] = []
    start = time.perf_counter()
    n_writes = int(UPDATE_S * WRITES_PER_S)
    for turn in range(n_writes):
        time.sleep(max(0.0, start + turn / WRITES_PER_S - time.perf_counter()))
        added = np.arange(turn * adds, (turn + 1) * adds)
        batch = workload.joined(
            [
                workload.with_ids(_chosen(source, added % len(source)), n + 1 + added, feed.seq + 1),
                workload.deletes(np.sort(victims[turn * deletes :][:deletes]), feed.seq + 1 + adds),
            ]
        )
        committed = time.perf_counter()
        feed.write(batch)
        follower.wake()
        if not wait_applied(follower, batch.last_seq, 10.0):
            raise SystemExit("a write was not visible within 10 s")
        delays.append(time.perf_counter() - committed)
        if turn == n_writes // 2:
            saver.start()
    saver.join()
    return delays


def churn(database: Path, queries: Path, directory: Path) -> Result:
    """Replace every image once, in random order, as fast as possible."""
    del queries
    store = open_store(f"sqlite:///{database}")
    workload.get_ready()
    empty = workload.resident_bytes()
    index = ImageIndex.open(directory, store_id=store.store_id)
    n = index.image_count
    fresh = workload.resident_bytes() - empty
    workload.forget_peak()
    index.start_maintenance()
    order = np.random.default_rng(2).permutation(np.arange(1, n + 1))
    start = time.perf_counter()
    done = 0
    for batch in workload.batches_of(store, CHURN_BATCH):
        index.apply(workload.with_ids(batch, order[done : done + len(batch)], index.applied_seq + 1))
        done += len(batch)
    apply_s = time.perf_counter() - start
    del batch, order  # the benchmark's own memory
    store.close()
    index.maintain()
    release_free_memory()
    stats = index.stats()
    result: Result = {
        "images": stats.images,
        "replacements_per_s": n / apply_s,
        "bytes_per_image_before": fresh / n,
        "bytes_per_image_after": (workload.resident_bytes() - empty) / n,
        "peak_bytes_per_image": (workload.peak_bytes() - empty) / n,
        "counted_bytes_per_image": stats.resident_bytes / n,
        "segments": stats.segments,
        "dead_images": stats.dead_images,
        "settle_s": time.perf_counter() - start - apply_s,
    }
    index.close()
    return result


def _chosen(batch: ChangeBatch, rows: np.ndarray) -> ChangeBatch:
    """Return some rows of a batch."""
    return type(batch)(
        seqs=batch.seqs[rows],
        image_ids=batch.image_ids[rows],
        is_live=batch.is_live[rows],
        averages=batch.averages[rows],
        positions=batch.positions[rows],
    )


STAGES = {"build": build, "restart": restart, "updates": updates, "churn": churn}

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    print(json.dumps(STAGES[sys.argv[1]](*map(Path, sys.argv[2:5]))))
