"""The processes of the Procfile on this machine, with a private Redis and Postgres: `make cluster`.

Needs nothing but Python packages. Everything it stores is gone when it ends, which Ctrl-C asks for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import honcho.manager
import httpx
from honcho.environ import expand_processes, parse_procfile

from tests.fixtures.databases import PostgresServer, initialised_cluster
from tests.fixtures.ports import free_port
from tests.fixtures.redis import RedisServer

PROCFILE: Final = Path(__file__).parents[1] / "Procfile"
STOP_S: Final = 60
"""A worker may take so long to finish what it has in hand; honcho would kill it after 5 seconds."""


def main() -> None:
    """Start everything, say where it answers, and end everything."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--port", type=int, default=5588, help="of the front end; 0 picks a free one")
    parser.add_argument(
        "--workers", type=int, default=1, help="worker services, each with a process per core"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        try:
            status = run(options.port or free_port(), options.workers, stack)
        except KeyboardInterrupt:
            status = 130
    sys.exit(status)


def run(port: int, workers: int, stack: ExitStack) -> int:
    """Run the processes until one ends or the user ends them; `stack` ends Redis and Postgres."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iqdb-cluster-")))
    say("starting Redis and Postgres")
    cluster = stack.enter_context(initialised_cluster())
    postgres = stack.enter_context(PostgresServer(cluster, fsync="on"))
    redis = RedisServer(folder / "redis")
    stack.callback(redis.stop)
    redis.start()
    query_port = free_port()
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "IQDB_API_PORT": str(port),
        "IQDB_DATABASE_URL": postgres.url(),
        "IQDB_INDEX_DIR": str(folder / "index"),
        "IQDB_QUERY_PORT": str(query_port),
        "IQDB_QUERY_URLS": f"http://127.0.0.1:{query_port}",
        "IQDB_REDIS_URL": redis.url,
    }
    commands = parse_procfile(PROCFILE.read_text()).processes
    release = commands.pop("release")
    subprocess.run(release, shell=True, check=True, env=environment)  # noqa: S602 - our own Procfile
    honcho.manager.KILL_WAIT = STOP_S
    manager = honcho.manager.Manager()
    for process in expand_processes(commands, concurrency={"worker": workers}, env=environment):
        manager.add_process(process.name, process.cmd, env=process.env)
    url = f"http://127.0.0.1:{port}"
    ended = threading.Event()
    threading.Thread(target=announce, args=(url, ended), daemon=True).start()
    try:
        manager.loop()
    finally:
        ended.set()
    ended_by_user = 130
    return 0 if manager.returncode == ended_by_user else int(manager.returncode or 0)


def announce(url: str, ended: threading.Event) -> None:
    """Print the address once it answers queries, too: `/ready` does not wait for the query node."""
    while not ended.wait(0.2):
        try:
            if httpx.get(f"{url}/status", timeout=5).status_code == 200:
                say(f"ready on {url} (Ctrl-C ends it; what it stores is gone then)")
                return
        except httpx.TransportError:
            continue


def say(text: str) -> None:
    """Write a line among those of the processes."""
    sys.stdout.write(f"cluster: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
