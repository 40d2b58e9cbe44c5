"""Query times of a saved index, and of the control on the same images in the same process.

    python -m benchmarks.index_query DATABASE QUERIES DIRECTORY

Prints one JSON object. Queries and control take turns in rounds, so that a machine that slows down slows
both. Control: the family's algorithm. Lists of documents per bucket; a query sets one float32 per document to
the averages' term, adds each bucket's weight to the documents of its list, and keeps the best ten in one
pass. Compiled by numba as the index is; it is given the documents ready as arrays and looks up no signature
of its matches. Limit: the time to read 14 bytes per image from memory, one after the other, in the same
process; what a scan of bitmaps has to read.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from benchmarks import index_workload as workload
from iqdb_core.index import ImageIndex, IndexOptions
from iqdb_core.index.segment.weights import AVERAGE_WEIGHTS, BINS, WEIGHTS
from iqdb_core.machine import usable_cores
from iqdb_core.model import BUCKETS, GREY_LIMIT, PLANE, SIDE, Signature
from iqdb_core.store import SignatureStore, open_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 10
CLIENTS = 8
ROUNDS = 3
CONTROL_QUERIES = 30
MIN_SCORES = (50.0, 70.0, 90.0)
LIMIT_BYTES = 14
LIMIT_WORDS = 1 << 26
"""512 MiB: far more than any cache."""
READ_CHANGES = 65_536


@njit(nogil=True, cache=True)
def count(positions: NDArray[np.int16], is_grey: NDArray[np.bool_], counts: NDArray[np.int64]) -> None:
    """Count the postings of each bucket."""
    for image in range(len(positions)):
        for channel in range(1 if is_grey[image] else 3):
            for signed in positions[image, channel]:
                counts[(channel * 2 + (signed < 0)) * PLANE + abs(np.int64(signed))] += 1


@njit(nogil=True, cache=True)
def fill(
    positions: NDArray[np.int16],
    is_grey: NDArray[np.bool_],
    first: int,
    ends: NDArray[np.int64],
    documents: NDArray[np.uint32],
) -> None:
    """Append the documents from `first` on to the lists of their buckets."""
    for image in range(len(positions)):
        for channel in range(1 if is_grey[image] else 3):
            for signed in positions[image, channel]:
                bucket = (channel * 2 + (signed < 0)) * PLANE + abs(np.int64(signed))
                documents[ends[bucket]] = first + image
                ends[bucket] += 1


@njit(nogil=True, cache=True)
def total_of(words: NDArray[np.uint64]) -> int:
    """Read all words."""
    total = np.uint64(0)
    for word in words:
        total += word
    return total


@njit(nogil=True, cache=True)
def bucket_scan(
    starts: NDArray[np.int64],
    documents: NDArray[np.uint32],
    averages: NDArray[np.float32],
    asked: NDArray[np.float32],
    buckets: NDArray[np.int64],
    weights: NDArray[np.float32],
    scores: NDArray[np.float32],
    best: NDArray[np.float32],
) -> None:
    """Score every document; leave the ten best scores in `best`, descending."""
    n_channels = len(asked)
    for document in range(len(scores)):
        score = np.float32(0.0)
        for channel in range(n_channels):
            score -= np.float32(AVERAGE_WEIGHTS[channel]) * abs(averages[document, channel] - asked[channel])
        scores[document] = score
    for i in range(len(buckets)):
        weight = weights[i]
        for at in range(starts[buckets[i]], starts[buckets[i] + 1]):
            scores[documents[at]] += weight
    best[:] = -np.inf
    for document in range(len(scores)):
        if scores[document] > best[-1]:
            place = len(best) - 1
            while place > 0 and best[place - 1] < scores[document]:
                best[place] = best[place - 1]
                place -= 1
            best[place] = scores[document]


class Control:
    """The family's index of a store's images."""

    def __init__(self, store: SignatureStore) -> None:
        counts = np.zeros(BUCKETS, dtype=np.int64)
        averages = []
        for batch in workload.batches_of(store, READ_CHANGES):
            count(batch.positions, _grey(batch.averages), counts)
            averages.append(batch.averages.astype(np.float32))
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.averages = np.concatenate(averages)
        self.documents = np.empty(self.starts[-1], dtype=np.uint32)
        self.scores = np.empty(len(self.averages), dtype=np.float32)
        ends, first = self.starts[:-1].copy(), 0
        for batch in workload.batches_of(store, READ_CHANGES):
            fill(batch.positions, _grey(batch.averages), first, ends, self.documents)
            first += len(batch)
        position = np.arange(PLANE)
        self.bins = np.minimum(np.maximum(position // SIDE, position % SIDE), BINS - 1)

    def query(self, signature: Signature) -> NDArray[np.float32]:
        """Return the ten best scores, 0..100."""
        n_channels = 1 if signature.is_grey else 3
        signed = signature.signed_positions()[:n_channels].astype(np.int64)
        buckets = ((np.arange(n_channels)[:, None] * 2 + (signed < 0)) * PLANE + np.abs(signed)).ravel()
        weights = np.array(WEIGHTS, dtype=np.float32)[buckets // PLANE // 2, self.bins[buckets % PLANE]]
        asked = np.array(signature.averages[:n_channels], dtype=np.float32)
        best = np.empty(TOP, dtype=np.float32)
        arrays = (self.starts, self.documents, self.averages, asked, buckets, weights, self.scores, best)
        bucket_scan(*arrays)
        held = self.starts[buckets + 1] > self.starts[buckets]
        scores: NDArray[np.float32] = best * 100 / weights[held].sum()
        return scores


def _grey(averages: NDArray[np.float64]) -> NDArray[np.bool_]:
    is_grey: NDArray[np.bool_] = np.abs(averages[:, 1]) + np.abs(averages[:, 2]) < GREY_LIMIT
    return is_grey


def times_ms(index: ImageIndex, signatures: list[Signature], min_score: float | None = None) -> list[float]:
    """Return how long each query takes, one after the other."""
    times = []
    for signature in signatures:
        start = time.perf_counter()
        index.query(signature, TOP, min_score)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def clients_ms(index: ImageIndex, signatures: list[Signature]) -> tuple[list[float], float]:
    """Return the times of queries of 8 clients at once, and the time per query of all together."""
    times: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: times.append(times_ms(index, signatures))) for _ in range(CLIENTS)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total_ms = (time.perf_counter() - start) * 1e3
    return [one for client in times for one in client], total_ms / (CLIENTS * len(signatures))


def limit_ms(n_images: int) -> float:
    """Return the shortest time of reading `LIMIT_BYTES` per image, milliseconds."""
    words = np.ones(LIMIT_WORDS, dtype=np.uint64)
    total_of(words[:8])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        if total_of(words) != LIMIT_WORDS:
            raise SystemExit("numbers were not added up")
        times.append((time.perf_counter() - start) * 1e3)
    return min(times) / words.nbytes * LIMIT_BYTES * n_images


def main(database: Path, queries: Path, directory: Path) -> None:
    """Measure and print."""
    signatures = workload.read_queries(queries)
    store = open_store(f"sqlite:///{database}")
    workload.get_ready()
    one, control_ms = [], []
    with ImageIndex.open(directory, store_id=store.store_id) as index:
        times_ms(index, signatures[:50])
        clients, together_ms = clients_ms(index, signatures[: len(signatures) // 3])
        pruned = {f"{score:.0f}": float(np.mean(times_ms(index, signatures, score))) for score in MIN_SCORES}
        control = Control(store)
        control.query(signatures[0])
        for turn in range(ROUNDS):
            one += times_ms(index, signatures)
            for signature in signatures[turn::ROUNDS][:CONTROL_QUERIES]:
                start = time.perf_counter()
                best = control.query(signature)
                control_ms.append((time.perf_counter() - start) * 1e3)
                ours = [match.score for match in index.query(signature, TOP)]
                if not np.allclose(best, ours, atol=0.01):
                    raise SystemExit(f"control and index disagree: {best.tolist()} and {ours}")
        n_images = index.image_count
    del control
    options = IndexOptions(query_threads=usable_cores())
    with ImageIndex.open(directory, store_id=store.store_id, options=options) as index:
        times_ms(index, signatures[:50])
        shared = times_ms(index, signatures)
    figures = {
        "images": n_images,
        "mean_ms": float(np.mean(one)),
        "p50_ms": float(np.quantile(one, 0.5)),
        "p99_ms": float(np.quantile(one, 0.99)),
        "all_cores_mean_ms": float(np.mean(shared)),
        "clients_mean_ms": together_ms,
        "clients_p99_ms": float(np.quantile(clients, 0.99)),
        "control_mean_ms": float(np.mean(control_ms)),
        "limit_ms": limit_ms(n_images),
        "min_score_ms": pruned,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
