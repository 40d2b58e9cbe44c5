"""`python -m worker`: the composition root of the worker role.

Reads options and environment, starts Celery, ends with its status. `iqdb worker` runs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence

from iqdb_core.errors import ConfigError
from iqdb_core.signature import warm_up
from worker.app import create_app
from worker.settings import WorkerSettings

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a worker until it is told to stop.

    SIGTERM ends it after the tasks in hand. Exit status 2 for settings that cannot work.
    """
    parser = argparse.ArgumentParser(prog="iqdb worker", description="Hash queued images and store them.")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="processes that decode; default: one per core"
    )
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format=LOG_FORMAT)
    try:
        settings = WorkerSettings.from_environment(os.environ, worker_processes=options.processes)
    except ConfigError as error:
        parser.error(str(error))
    warm_up()  # before the fork: a child that replaces a killed one finds its kernels loaded
    app = create_app(settings)
    name = f"iqdb@{socket.gethostname()}-{os.getpid()}"
    app.worker_main(
        [
            *("worker", "--pool", "prefork", "--hostname", name, "--loglevel", options.log_level.upper()),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
