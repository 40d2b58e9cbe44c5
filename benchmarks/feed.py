"""Rows per second through the store: take over, apply, read and follow the feed; delay of a write.

Claim: a follower reads a million changes in less than twice the time the database driver needs to return the
rows, so that restarts are limited by the index and not by the feed. A write is visible to a follower well
within 50 ms, even while others write. Applying in groups costs a small multiple of bare inserts, and far less
than hashing.

Method: N signatures of random positions. Takeover: a file as IQDB leaves it, its posts in no order. Apply:
groups of new images, one thread, durable commits (fsync on). Feed: from cursor 0 in batches of 65,536, then
through a Follower whose sink only counts. Delay: from the return of `apply` until a sink in another thread
has the change, at rest and while another thread applies groups of 100 without pause; with a waiter's wake,
and by polling alone (every 50 ms and 200 ms, as the two modes do). Postgres is a private server on this
machine that commits durably. Control: the driver's fetchall of the same columns (feed); inserting the same
rows into `images` alone, without feed and counter, in the same groups (apply).

    python -m benchmarks.feed [--images 1000000] [--skip-postgres]
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from iqdb_core.follower import Follower
from iqdb_core.model import Signature, Write
from iqdb_core.store import open_store
from iqdb_core.store.migrate import copy_store
from tests.fixtures.databases import PostgresServer, initialised_cluster
from tests.fixtures.followers import wait_applied
from tests.fixtures.stores import IQDB_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iqdb_core.model import ChangeBatch
    from iqdb_core.store import SignatureStore

BATCH = 65_536
GROUPS = (1, 10, 100, 1_000, 10_000)
GROUP_S = 3.0
DELAYS = 300
INSERT = "INSERT INTO images (post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?)"
FEED_COLUMNS = (
    "SELECT f.seq, f.post_id, i.avglf1, i.avglf2, i.avglf3, i.sig FROM iqdb_feed AS f"
    " JOIN images AS i ON i.id = f.row_id ORDER BY f.seq"
)


class CountingSink:
    """Counts changes and remembers when each seq came."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, batch: ChangeBatch) -> None:
        """Count a batch."""
        self.count += len(batch)

    def reset(self) -> None:
        """Count from nothing."""
        self.count = 0


def signatures(count: int) -> Iterator[Signature]:
    """Yield random signatures."""
    rng = np.random.default_rng(7)
    for start in range(0, count, 10_000):
        n = min(10_000, count - start)
        positions = rng.integers(1, 16384, (n, 120), dtype=np.int16) * rng.choice(
            np.array([-1, 1], np.int16), (n, 120)
        )
        for (y, i, q), row in zip(
            rng.uniform(-0.5, 1, (n, 3)).tolist(), positions.astype("<i2"), strict=True
        ):
            yield Signature((y, i, q), row.tobytes())


def make_file(path: Path, count: int) -> None:
    """Write a file as IQDB leaves it, with ids in no order."""
    posts = np.random.default_rng(8).permutation(4 * count)[:count].tolist()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(IQDB_TABLE)
        rows = (
            (post, *found.averages, found.positions)
            for post, found in zip(posts, signatures(count), strict=True)
        )
        connection.executemany(INSERT, rows)


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_all(store: SignatureStore) -> None:
    """Read the feed to its end."""
    cursor = 0
    while len(batch := store.changes_since(cursor, BATCH)):
        cursor = batch.last_seq


def rows_per_s(apply: Callable[[Sequence[Write]], object], size: int, pool: Sequence[Signature]) -> float:
    """Return how many new images per second go through `apply` in groups of `size`."""
    ids = iter(np.random.default_rng(size).permutation(1 << 22).tolist())
    spent, done = 0.0, 0
    while spent < GROUP_S:
        group = [
            Write((size << 32) + image_id, 1, pool[image_id % len(pool)])
            for image_id in itertools.islice(ids, size)
        ]
        spent += timed(lambda group=group: apply(group))
        done += size
    return done / spent


def report_apply(store: SignatureStore, control: Callable[[Sequence[Write]], object]) -> None:
    """Print rows per second by size of group, beside the control."""
    pool = list(signatures(5_000))
    for size in GROUPS:
        ours, bare = rows_per_s(store.apply, size, pool), rows_per_s(control, size, pool)
        ratio = f"{ours / bare:.2f} of bare inserts ({bare:,.0f})"
        print(f"  apply, groups of {size:>6}: {ours:>8,.0f} rows/s   {ratio}")


def report_feed(store: SignatureStore, control: Callable[[], object], count: int) -> None:
    """Print seconds per million changes, beside the control."""
    per_million = 1e6 / count
    bare = timed(control) * per_million
    ours = timed(lambda: read_all(store)) * per_million
    follower = Follower(store, CountingSink(), cursor=0, poll_s=1)
    followed = timed(follower.catch_up) * per_million
    follower.stop()
    print(f"  feed: {ours:.2f} s per million   {ours / bare:.2f} of the driver's fetchall ({bare:.2f} s)")
    print(f"  follower into a counting sink: {followed:.2f} s per million")


def report_delay(store: SignatureStore, label: str, poll_s: float, *, wake: bool, busy: bool) -> None:
    """Print how long a committed write takes to reach a sink."""
    pool = list(signatures(100))
    stop = threading.Event()
    numbers = itertools.count(1)

    def keep_writing() -> None:
        while not stop.is_set():
            store.apply([Write(next(numbers) % 50_000, time.time_ns(), pool[k]) for k in range(100)])

    follower = Follower(store, CountingSink(), cursor=store.head_seq(), poll_s=poll_s)
    follower.start()
    writer = threading.Thread(target=keep_writing)
    if busy:
        writer.start()
    delays = []
    never = threading.Event()
    rng = np.random.default_rng(3)
    for turn in range(DELAYS if wake else DELAYS // 10):
        (outcome,) = store.apply([Write(10**9 + turn, time.time_ns(), pool[turn % 100])])
        start = time.perf_counter()
        if wake:
            wait_applied(follower, outcome.seq, 60)
        else:
            while follower.applied_seq < outcome.seq:
                never.wait(0.0005)
        delays.append(1000 * (time.perf_counter() - start))
        never.wait(rng.uniform(0, 0.02 if wake else 2 * poll_s))  # so that polls and writes are unrelated
    stop.set()
    if busy:
        writer.join()
    follower.stop()
    delays.sort()
    p99 = delays[int(0.99 * len(delays))]
    print(f"  delay, {label}: median {statistics.median(delays):.1f} ms, p99 {p99:.1f} ms")


def report_delays(store: SignatureStore) -> None:
    """Print all delays."""
    report_delay(store, "woken, at rest", 0.05, wake=True, busy=False)
    report_delay(store, "woken, under load", 0.05, wake=True, busy=True)
    report_delay(store, "polling every 50 ms, at rest", 0.05, wake=False, busy=False)
    report_delay(store, "polling every 200 ms, at rest", 0.2, wake=False, busy=False)


def sqlite_part(folder: Path, original: Path, count: int) -> None:
    """Measure SQLite."""
    print("SQLite")
    path = folder / "taken.sqlite"
    shutil.copy(original, path)
    taken = timed(lambda: open_store(str(path)).close())
    print(f"  takeover: {taken * 1e6 / count:.2f} s per million")
    print(f"  open again: {timed(lambda: open_store(str(path)).close()) * 1e6 / count:.2f} s per million")
    store = open_store(str(path))
    with closing(sqlite3.connect(path)) as bare:
        report_feed(store, lambda: bare.execute(FEED_COLUMNS).fetchall(), count)
    store.close()

    store = open_store(str(folder / "applied.sqlite"))
    with closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as bare:
        for statement in (
            IQDB_TABLE,
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA cache_size = -65536",
        ):
            bare.execute(statement)

        def insert(writes: Sequence[Write]) -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.executemany(
                INSERT,
                [(w.image_id, *w.signature.averages, w.signature.positions) for w in writes if w.signature],
            )
            bare.execute("COMMIT")

        report_apply(store, insert)
    report_delays(store)
    store.close()


def postgres_part(server: PostgresServer, folder: Path, original: Path, count: int) -> None:
    """Measure Postgres."""
    print("Postgres")
    with (
        server.fresh_database() as url,
        server.fresh_database() as other,
        server.fresh_database() as bare_url,
    ):
        copied = timed(lambda: copy_store(str(original), url))
        print(f"  copy of an IQDB file into it: {copied * 1e6 / count:.2f} s per million")
        store = open_store(url)
        with psycopg.connect(url) as bare:
            report_feed(
                store, lambda: bare.cursor(binary=True).execute(FEED_COLUMNS.encode()).fetchall(), count
            )
        store.close()
        copied = timed(lambda: copy_store(url, str(folder / "back.sqlite")))
        print(f"  copy of it into an SQLite store: {copied * 1e6 / count:.2f} s per million")

        store = open_store(other)
        open_store(bare_url).close()
        with psycopg.connect(bare_url) as bare:

            def insert(writes: Sequence[Write]) -> None:
                rows = [
                    (w.image_id, w.image_id, *w.signature.averages, w.signature.positions)
                    for w in writes
                    if w.signature
                ]
                columns = [list(column) for column in zip(*rows, strict=True)]
                types = "%b::bigint[], %b::bigint[], %b::float8[], %b::float8[], %b::float8[], %b::bytea[]"
                bare.execute(f"INSERT INTO images SELECT * FROM unnest({types})".encode(), columns)  # noqa: S608
                bare.commit()

            report_apply(store, insert)
        report_delays(store)
        store.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--skip-postgres", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iqdb-feed-")))
        original = folder / "original.sqlite"
        make_file(original, arguments.images)
        print(f"{arguments.images:,} images")
        sqlite_part(folder, original, arguments.images)
        if not arguments.skip_postgres:
            data = stack.enter_context(initialised_cluster())
            durable = {
                "fsync": "on",
                "full_page_writes": "on",
                "shared_buffers": "256MB",
                "max_wal_size": "4GB",
            }
            server = stack.enter_context(PostgresServer(data, **durable))
            postgres_part(server, folder, original, arguments.images)


if __name__ == "__main__":
    main()
