"""`python -m worker`: the composition root of the worker role.

Reads options and environment, starts Celery, ends with its status. `iqdb worker` runs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from celery.signals import worker_ready

from iqdb_core.errors import ConfigError, StoreInvalid, StoreUnavailable
from iqdb_core.signature import warm_up
from iqdb_core.store import open_store
from worker.app import create_app
from worker.check import worker_name
from worker.settings import WorkerSettings
from worker.tasks import open_ledger

logger = logging.getLogger(__name__)

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
    warm_up()  # before the fork: a child that replaces a killed one finds its kernels loaded
    worker_ready.connect(lambda **_: _say_ready(settings), weak=False)
    worker = create_app(settings).Worker(
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


def check(settings: WorkerSettings) -> None:
    """Find out whether these settings can work; makes or upgrades the tables, too.

    A database or a Redis that is only away is no reason to end: both are waited for.

    Raises
    ------
    ConfigError
        An address that is none.
    StoreInvalid
        A database that is not ours or from a newer version.
    """
    open_ledger(settings).close()
    try:
        open_store(settings.database_url).close()
    except StoreUnavailable as error:
        logger.warning("starting without the database: %s", error)


def _say_ready(settings: WorkerSettings) -> None:
    sys.stdout.write(f"iqdb: worker is ready, decoding in {settings.worker_processes} processes\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
