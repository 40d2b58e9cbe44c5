"""The composition root of the worker role.

Reads the environment, starts Celery, ends with its status.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

from celery.exceptions import SecurityWarning

from iqdb_core.errors import ConfigError, StoreInvalid
from iqdb_core.settings import Settings
from worker.celery import create_app
from worker.check import worker_name
from worker.ending import OrderlyWorker
from worker.startup import check, end

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"


def main() -> None:
    """Run a worker until it is told to stop.

    SIGTERM, SIGINT and SIGHUP end it after the tasks in hand. Exit status 2 for settings that cannot work, 1
    for a database that is not ours.
    """
    try:
        settings = Settings.read()
        logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
        # The worker checks once more, as when Celery's command starts it. Here it is done before Celery sees
        # the settings, to some of which it answers with a traceback.
        check(settings)
    except (ConfigError, StoreInvalid) as error:
        end(error)
    warnings.simplefilter("ignore", SecurityWarning)  # it recommends an option that this command lacks
    if os.geteuid() == 0:
        log.warning(
            "this worker decodes untrusted pictures as root: run it as a user without rights",
            extra={"action": "runs_as_root"},
        )
    worker = OrderlyWorker(
        app=create_app(lambda: settings),
        hostname=worker_name(),
        pool_cls="prefork",
        loglevel=settings.log_level.upper(),
        quiet=True,
        # Workers need not talk to each other: the ledger coordinates them.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not settings.remote_control,
    )
    worker.start()
    sys.exit(worker.exitcode)
