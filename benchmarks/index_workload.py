"""The workload of the index benchmarks: an IQDB SQLite file, queries as lines of text, a feed in memory."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqdb_core.codec import from_hash
from iqdb_core.index import warm_up
from iqdb_core.model import ChangeBatch
from iqdb_core.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iqdb_core.model import Signature
    from iqdb_core.store import SignatureStore

GENERATOR = Path(__file__).resolve().parents[2] / "shared" / "make_signatures.py"
"""The standard workload: Y from one real signature, I and Q from another."""
N_QUERIES = 600
KIB = 1_024
CHUNK_BYTES = 1 << 22


def make_database(folder: Path, n_images: int) -> tuple[Path, Path]:
    """Return database and queries of the standard workload, made once per folder and size."""
    database, queries = folder / f"{n_images}.sqlite", folder / f"{n_images}.queries"
    if not queries.exists():
        if not GENERATOR.exists():
            raise SystemExit(f"{GENERATOR}, which makes the standard workload, is missing")
        command = [sys.executable, GENERATOR, n_images, database, "--queries", N_QUERIES, queries]
        subprocess.run([str(part) for part in command], check=True)
        open_store(f"sqlite:///{database}").close()  # our tables, made once
    return database, queries


def read_queries(path: Path) -> list[Signature]:
    """Return the query signatures."""
    return [from_hash(line) for line in path.read_text().split()]


def batches_of(store: SignatureStore, limit: int) -> Iterator[ChangeBatch]:
    """Yield all changes of a store in batches."""
    cursor = 0
    while len(batch := store.changes_since(cursor, limit)):
        cursor = batch.last_seq
        yield batch


def with_ids(batch: ChangeBatch, image_ids: np.ndarray, first_seq: int) -> ChangeBatch:
    """Return the batch's signatures under other ids and seqs."""
    seqs = np.arange(first_seq, first_seq + len(image_ids), dtype=np.int64)
    return dataclasses.replace(batch, seqs=seqs, image_ids=image_ids)


def joined(parts: list[ChangeBatch]) -> ChangeBatch:
    """Return batches end to end."""
    return ChangeBatch(
        seqs=np.concatenate([part.seqs for part in parts]),
        image_ids=np.concatenate([part.image_ids for part in parts]),
        is_live=np.concatenate([part.is_live for part in parts]),
        averages=np.concatenate([part.averages for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
    )


def deletes(image_ids: np.ndarray, first_seq: int) -> ChangeBatch:
    """Return a batch of tombstones."""
    n = len(image_ids)
    return ChangeBatch(
        np.arange(first_seq, first_seq + n, dtype=np.int64),
        image_ids,
        np.zeros(n, dtype=np.bool_),
        np.zeros((n, 3)),
        np.zeros((n, 3, 40), dtype=np.int16),
    )


def get_ready() -> None:
    """Compile or load every kernel, and exempt existing objects from garbage collection, like a server.

    An empty process then differs from a full one only by the images.
    """
    warm_up()
    gc.collect()
    gc.freeze()


def bring_into_page_cache(file: Path) -> None:
    """Read a file once, so that the speed of the disk is not measured."""
    with file.open("rb") as opened:
        while opened.read(CHUNK_BYTES):
            pass


def resident_bytes() -> int:
    """Return the memory of this process."""
    return _status("VmRSS:")


def peak_bytes() -> int:
    """Return the most memory this process had since `forget_peak`."""
    return _status("VmHWM:")


def forget_peak() -> None:
    """Begin a new peak."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KIB
    raise LookupError(name)


class MemoryFeed:
    """A feed without a database, with the batches given to `write`; for `Follower`."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._lock = threading.Lock()
        self._batches: deque[ChangeBatch] = deque()

    def write(self, batch: ChangeBatch) -> None:
        """Commit a batch."""
        with self._lock:
            self._batches.append(batch)
            self.seq = batch.last_seq

    def changes_since(self, cursor: int, limit: int) -> ChangeBatch:
        """Return what came after the cursor; batches are small, so `limit` never cuts."""
        del limit
        with self._lock:
            while self._batches and self._batches[0].last_seq <= cursor:
                self._batches.popleft()
            waiting = list(self._batches)
        return joined(waiting) if waiting else deletes(np.empty(0, dtype=np.int64), 0)

    def head_seq(self) -> int:
        """Return the newest seq."""
        return self.seq
