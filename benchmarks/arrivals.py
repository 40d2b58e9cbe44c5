"""New connections while many clients are busy: how long until the first answer.

Claim: while 64 clients keep their connections busy, a new client is answered about as soon as they are.

Method: a server process on a new SQLite file with N images (default 10,000, random signatures). 64 clients
connect at the same moment and query by hash over kept connections; a 65th client makes a new connection for
every query. All clients are one process. Control, in the same run: the answers on the kept connections.

    python -m benchmarks.arrivals [--seconds 5] [--images 10000] [--clients 64]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Send one query and read its answer."""
    writer.write(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        raise SystemExit(head.decode())
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def busy(port: int, paths: list[str], end: float, first: list[float], later: list[float]) -> None:
    """Query over one kept connection until `end`."""
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while time.perf_counter() < end:
        await ask(reader, writer, paths[number % len(paths)])
        now = time.perf_counter()
        (later if number else first).append(now - start)
        start, number = now, number + 1
    writer.close()


async def newcomer(port: int, paths: list[str], end: float, first: list[float]) -> None:
    """Query over a new connection each time until `end`."""
    while time.perf_counter() < end:
        start = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(reader, writer, paths[0])
        writer.close()
        first.append(time.perf_counter() - start)


async def scenario(port: int, paths: list[str], seconds: float, clients: int) -> None:
    """Run all clients and print."""
    arrived: list[float] = []
    kept: list[float] = []
    new: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(
        *(busy(port, paths, end, arrived, kept) for _ in range(clients)), newcomer(port, paths, end, new)
    )
    print(f"{clients} clients: {(len(kept) + len(arrived)) / seconds:.0f} answers/s")
    for name, times in (("kept connections", kept), ("the same when they arrived", arrived), ("new", new)):
        middle, slow = np.percentile(times, [50, 99]) * 1000
        ratio = slow / (np.percentile(kept, 99) * 1000)
        print(f"{name:28s} median {middle:6.1f} ms, p99 {slow:7.1f} ms = {ratio:.1f} of kept ({len(times)})")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        database = Path(folder) / "bench.sqlite"
        # Imported here, because that benchmark runs this one too.
        from benchmarks.server import Server, fill  # noqa: PLC0415

        paths = [f"/query?limit=10&hash={text}" for text in fill(database, options.images)]
        server = subprocess.Popen(
            [sys.executable, "-m", "api", "http", "127.0.0.1", "0", str(database)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            measured = Server(server)
            measured.wait_idle()
            asyncio.run(scenario(measured.port, paths, options.seconds, options.clients))
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
