"""`python -m worker`: the composition root of the worker role.

Reads options and environment, starts Celery, ends with its status. `iqdb worker` runs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from iqdb_core.errors import ConfigError, StoreInvalid
from worker.celery import create_app
from worker.check import worker_name
from worker.settings import WorkerSettings
from worker.startup import check

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a worker until it is told to stop.

    SIGTERM ends it after the tasks in hand. Exit status 2 for settings that cannot work, 1 for a database
    that is not ours.
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
        check(settings)
    except ConfigError as error:
        parser.error(str(error))
    except StoreInvalid as error:
        parser.exit(1, f"iqdb: {error}\n")
    worker = create_app(lambda: settings).Worker(
        hostname=worker_name(),
        pool_cls="prefork",
        loglevel=options.log_level.upper(),
        quiet=True,
        # Talk among workers needs pub/sub and has kept workers from reconnecting.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main(sys.argv[1:])
