"""The cost of counting for `/metrics`.

Claim: below 2 % of the processor time of any request.

Method: the instruments count as they do for one query (request, decode, hash, scan) and for the cheapest
request (`GET /live`), many times in this process; the control is the processor time that a real embedded
server spends per request of the same kind, counting included, by its own `process_cpu_seconds_total`. All in
the same run.

    python -m benchmarks.metrics [--requests 3000]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import subprocess
import sys
import tempfile
import time
from typing import Any

from api.metrics.instruments import Instruments
from api.metrics.middleware import RequestCounter
from api.metrics.stages import Stage
from benchmarks.server import HEADERS, form, pictures


def instruments_s(count: int, stages: tuple[Stage, ...]) -> float:
    """Return the processor seconds that counting one request takes, its part of the middleware included."""
    instruments = Instruments("benchmark")

    async def bare(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def sink(_: Any) -> None:
        return

    async def run(app: Any) -> float:
        start = time.process_time()
        for _ in range(count):
            await app({"type": "http", "method": "POST", "path": "/query"}, sink, sink)
            if app is counted:
                for stage in stages:
                    instruments.observe(stage, 0.003)
        return time.process_time() - start

    counted = RequestCounter(bare, instruments=instruments, route_of=lambda path: path)
    asyncio.run(run(counted))
    return (asyncio.run(run(counted)) - asyncio.run(run(bare))) / count


def server_s(connection: http.client.HTTPConnection) -> float:
    """Return the processor seconds that the server has used."""
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    (line,) = (one for one in text.splitlines() if one.startswith("process_cpu_seconds_total "))
    return float(line.split()[1])


def requests_s(connection: http.client.HTTPConnection, count: int, *request: Any) -> float:
    """Return the processor seconds that the server spends on one request."""
    before = server_s(connection)
    for _ in range(count):
        connection.request(*request)
        connection.getresponse().read()
    return (server_s(connection) - before) / count


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "api", "http", "127.0.0.1", "0", f"{folder}/iqdb.sqlite"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None  # noqa: S101 - narrows
            host = process.stdout.readline().split()[3].removeprefix("http://")
            connection = http.client.HTTPConnection(host)
            body = form(pictures(1)[0])
            connection.request("POST", "/images/1", body, HEADERS)
            connection.getresponse().read()
            cases = (
                ("POST /query", ("POST", "/query", body, HEADERS), (Stage.DECODE, Stage.HASH, Stage.SCAN)),
                ("GET /live", ("GET", "/live"), ()),
            )
            for name, request, stages in cases:
                whole_s = requests_s(connection, count, *request)
                part_s = instruments_s(count * 10, stages)
                share = part_s / whole_s
                print(f"{name}: {part_s * 1e6:.1f} of {whole_s * 1e6:.0f} us are counting: {share:.2%}")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
