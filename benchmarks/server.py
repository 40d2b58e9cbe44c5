"""Adds and queries per second of the embedded server, over HTTP, as a client sees them.

Claim: adding costs little more than decoding and hashing the picture; asking costs little more than the
HTTP exchange itself. Clients that add at the same time share commits, so 8 of them are faster than one.

Method: a server process on a new SQLite file on disk; client processes on the same machine send requests over
kept-alive connections for a fixed time each. Pictures are JPEGs of 200 kilopixels made by code. Queries go by
hash, limit 10, at N images (default 10,000, random signatures). Controls, in the same run: decoding and
hashing alone on one core; `GET /live` instead of a query.

    python -m benchmarks.server [--seconds 5] [--images 10000]
"""

from __future__ import annotations

import argparse
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
from PIL import Image

from iqdb_core import codec
from iqdb_core.model import Signature, Write
from iqdb_core.signature import from_image_bytes
from iqdb_core.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDARY = "boundary"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


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


def rate(port: int, requests: list[Any], seconds: float, clients: int) -> float:
    """Return requests per second over `clients` processes."""
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        pool.starmap(client, [(port, requests[:1], 0.05, 90 + number) for number in range(clients)])
        counts = pool.starmap(client, [(port, requests, seconds, number) for number in range(clients)])
    return sum(counts) / seconds


def alone(work: Callable[[bytes], object], inputs: list[bytes], seconds: float) -> float:
    """Return how often `work` runs per second in this process alone."""
    work(inputs[0])
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work(inputs[count % len(inputs)])
        count += 1
    return count / (time.perf_counter() - start)


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
        server = subprocess.Popen(
            [sys.executable, "-m", "api", "http", "127.0.0.1", "0", str(database)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None  # noqa: S101 - narrows for the type checker
            port = int(server.stdout.readline().split()[3].rsplit(":", 1)[1])
            report(port, files, hashes, options.seconds)
        finally:
            server.terminate()
            server.wait(60)


def report(port: int, files: list[bytes], hashes: list[str], seconds: float) -> None:
    """Measure and print."""
    queries = [("POST", f"/query?limit=10&hash={text}", b"", {}) for text in hashes]
    lives = [("GET", "/live", b"", {})]
    for clients in (1, 8):
        asked, lived = rate(port, queries, seconds, clients), rate(port, lives, seconds, clients)
        print(
            f"queries/s, {clients} clients: {asked:7.0f}   = {asked / lived:.2f} of GET /live ({lived:.0f})"
        )
    adds = [("POST", "/images/{id}", form(data), HEADERS) for data in files]
    hashed, decoded = alone(from_image_bytes, files, seconds), alone(decode, files, seconds)
    print(f"alone on one core: {hashed:.0f} hashes/s, {decoded:.0f} decodes/s")
    for clients in (1, 8):
        added = rate(port, adds, seconds, clients)
        print(f"adds/s, {clients} clients: {added:7.0f} = {added / hashed:.2f} of hashing alone on one core")


if __name__ == "__main__":
    main()
