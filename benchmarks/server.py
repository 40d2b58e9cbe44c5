"""Adds and queries per second of the embedded server, over HTTP, as a client sees them.

Claim: an add costs little more than decoding and hashing the picture; a query costs little more than the HTTP
exchange itself. Clients that add at the same time share commits, so 8 of them are faster than one. While 64
clients are busy, a new client is answered about as soon as they are.

Method: a server process on a new SQLite file on disk; client processes on the same machine send requests over
kept-alive connections for a fixed time each. Pictures are JPEGs of 200 kilopixels made by code. Queries go by
hash, limit 10, at N images (default 10,000, random signatures). Beside requests per second stands the CPU
time that the server's process spent on each, which does not depend on what else the machine does. Controls,
in the same run: decoding and hashing alone on one core; the index alone in this process; `GET /live` instead
of a query. New connections: see `benchmarks.arrivals`.

    python -m benchmarks.server [--seconds 5] [--images 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.arrivals import scenario
from iqdb_core import codec
from iqdb_core.follower import Follower
from iqdb_core.index import ImageIndex
from iqdb_core.model import Signature, Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDARY = "boundary"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class Server:
    """The measured process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - narrows for the type checker
        self.port = int(process.stdout.readline().split()[3].rsplit(":", 1)[1])
        self._process = psutil.Process(process.pid)

    def wait_idle(self, deadline_s: float = 300.0) -> None:
        """Wait until it is at full speed: its kernels are loaded, or compiled by child processes."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(1)
            if self.cpu_s() - before < 0.1 and not self._process.children():
                return
        raise TimeoutError(f"the server was still preparing after {deadline_s:g} s")

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, seconds."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


def pictures(count: int) -> list[bytes]:
    """Return `count` different JPEGs of 500 x 400 pixels with the detail of a photograph."""
    rng = np.random.default_rng(5)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 400), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=88)
        made.append(stream.getvalue())
    return made


def form(data: bytes) -> bytes:
    """Return a multipart body with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def drawn_positions(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return 40 signed positions; low frequencies are common, as they are in pictures."""
    magnitudes = np.unique((rng.pareto(0.6, 400) * 20).astype(np.int64) % 16383 + 1)
    return np.sort(rng.permutation(magnitudes)[:40] * rng.choice([-1, 1], 40))


def fill(database: Path, count: int) -> list[str]:
    """Store `count` random signatures and return some of their hashes."""
    rng = np.random.default_rng(6)
    store = open_store(str(database))
    hashes = []
    for start in range(0, count, 5000):
        writes = []
        for number in range(start, min(count, start + 5000)):
            positions = np.stack([drawn_positions(rng) for _ in range(3)]).astype("<i2")
            averages = (float(rng.random()), *map(float, rng.normal(0, 0.05, 2)))
            signature = Signature((averages[0], averages[1], averages[2]), positions.tobytes())
            writes.append(Write(number, number + 1, signature))
            if number % 50 == 0:
                hashes.append(codec.to_hash(signature))
        store.apply(writes)
    store.close()
    return hashes


def client(
    port: int, requests: list[tuple[str, str, bytes, dict[str, str]]], seconds: float, number: int
) -> int:
    """Send `requests` in turn for `seconds`, {id} replaced by new ids; return how many were answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    count = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        method, path, body, headers = requests[(count + number * 7) % len(requests)]
        connection.request(method, path.replace("{id}", str(10**9 + number * 10**6 + count)), body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"{path}: {answer.status} {content[:200]!r}")
        count += 1
    return count


def rate(server: Server, requests: list[Any], seconds: float, clients: int) -> tuple[float, float]:
    """Return requests per second over `clients` processes, and milliseconds of CPU per request."""
    port = server.port
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        pool.starmap(client, [(port, requests[:1], 0.05, 90 + number) for number in range(clients)])
        before = server.cpu_s()
        counts = pool.starmap(client, [(port, requests, seconds, number) for number in range(clients)])
        spent = server.cpu_s() - before
    return sum(counts) / seconds, spent / sum(counts) * 1000


def index_alone(database: Path, hashes: list[str]) -> float:
    """Return milliseconds of CPU per query of the index alone."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(database))
        index = ImageIndex.open(Path(folder), store_id=store.store_id)
        Follower(store, index, cursor=0, poll_s=1).catch_up()
        asked = [codec.from_hash(text) for text in hashes]
        for signature in asked:
            index.query(signature, 10, None)
        start = time.process_time()
        for _ in range(5):
            for signature in asked:
                index.query(signature, 10, None)
        spent = time.process_time() - start
        index.close()
        store.close()
    return spent / (5 * len(asked)) * 1000


def alone(work: Callable[[bytes], object], inputs: list[bytes], seconds: float) -> float:
    """Return how often `work` runs per second of CPU in this process alone."""
    work(inputs[0])
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        work(inputs[count % len(inputs)])
        count += 1
    return count / (time.process_time() - start)


def decode(data: bytes) -> object:
    """Decode only."""
    return Image.open(io.BytesIO(data)).convert("RGB").load()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    files = pictures(40)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        database = Path(folder) / "bench.sqlite"
        hashes = fill(database, options.images)
        alone_ms = index_alone(database, hashes)
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "http", "127.0.0.1", "0", str(database)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            server = Server(process)
            server.wait_idle()
            report(server, files, hashes, options.seconds, alone_ms)
            paths = [f"/query?limit=10&hash={text}" for text in hashes]
            asyncio.run(scenario(server.port, paths, options.seconds, 64))
        finally:
            process.terminate()
            process.wait(60)


def report(server: Server, files: list[bytes], hashes: list[str], seconds: float, alone_ms: float) -> None:
    """Measure and print."""
    queries = [("POST", f"/query?limit=10&hash={text}", b"", {}) for text in hashes]
    lives = [("GET", "/live", b"", {})]
    print(f"the index alone: {alone_ms:.3f} ms of CPU per query")
    for clients in (1, 8):
        asked, asked_ms = rate(server, queries, seconds, clients)
        lived, lived_ms = rate(server, lives, seconds, clients)
        print(
            f"queries/s, {clients} clients: {asked:7.0f} = {asked / lived:.2f} of GET /live ({lived:.0f});",
            end="",
        )
        print(
            f" CPU {asked_ms:.2f} ms, {asked_ms - alone_ms:.2f} beyond the index; GET /live {lived_ms:.2f} ms"
        )
        fresh = [(method, path, body, {"Connection": "close"}) for method, path, body, _ in queries]
        once, once_ms = rate(server, fresh, seconds, clients)
        print(
            f"    each over a connection of its own: {once:7.0f} = {once / asked:.2f} of those;"
            f" CPU {once_ms:.2f} ms"
        )
    adds = [("POST", "/images/{id}", form(data), HEADERS) for data in files]
    hashed, decoded = alone(from_image_bytes, files, seconds), alone(decode, files, seconds)
    print(f"alone on one core: {hashed:.0f} hashes/s, {decoded:.0f} decodes/s")
    for clients in (1, 8):
        added, added_ms = rate(server, adds, seconds, clients)
        print(
            f"adds/s, {clients} clients: {added:7.0f} = {added / hashed:.2f} of hashing alone on one core;",
            end="",
        )
        print(f" CPU {added_ms:.2f} ms, {added_ms - 1000 / hashed:.2f} beyond decoding and hashing")


if __name__ == "__main__":
    main()
