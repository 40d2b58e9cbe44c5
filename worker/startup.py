"""What a worker does before its first message, whoever started it: `iqdb worker` or Celery's command."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing import current_process
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning
from celery.signals import worker_init, worker_ready

from iqdb_core.errors import ConfigError, StoreError, StoreInvalid
from iqdb_core.settings import Settings
from iqdb_core.signature import warm_up
from iqdb_core.store import open_store
from worker.ending import LEAVE_S, end_in_time
from worker.process_resources import open_ledger

log = logging.getLogger(__name__)


def prepare_at_start(
    app: Celery, settings: Callable[[], Settings], tell_store_id: Callable[[str], None]
) -> None:
    """Make workers of `app` check their settings, load their kernels, and print when they are ready.

    Parameters
    ----------
    app : Celery
    settings : callable
        Returns the settings.
    tell_store_id : callable
        Gets the id of the store, '' when the store is away.
    """

    def prepare(sender: Any, **_: Any) -> None:
        if sender.app is app:
            try:
                tell_store_id(check(settings()))
            except (ConfigError, StoreInvalid) as error:
                end(error)
            _make_no_folder()
            end_in_time(sender.hostname, settings().task_time_limit_s + LEAVE_S)
            warm_up()  # before the fork: a child that replaces a killed one finds its kernels loaded

    def say_ready(sender: Any, **_: Any) -> None:
        if sender.app is app:
            # At each lost connection Celery recommends a setting that was chosen otherwise. Not ignored
            # earlier, since Celery turns these warnings on when it sets up its log.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            sys.stdout.write(f"iqdb: worker is ready, decoding in {sender.pool.num_processes} processes\n")
            sys.stdout.flush()

    worker_init.connect(prepare, weak=False)
    worker_ready.connect(say_ready, weak=False)


def _make_no_folder() -> None:
    """Keep Celery's processes from making a temporary folder, which a killed worker would leave behind.

    What they share lies in files that lose their names as soon as they are open.
    """
    # Where billiard looks for it; there is no public way to set it.
    current_process()._config["tempdir"] = tempfile.gettempdir()  # type: ignore[attr-defined] # noqa: SLF001


def end(error: Exception) -> NoReturn:
    """End the process with a sentence and exit code 2 for settings that cannot work, else 1."""
    sys.stderr.write(f"iqdb: {error}\n")
    sys.exit(2 if isinstance(error, ConfigError) else 1)


def check(settings: Settings) -> str:
    """Find out whether these settings can work; makes or upgrades the tables, too.

    A database or a Redis that is only away, or into which a backup is being put back, is no reason to end:
    they are waited for.

    Returns
    -------
    str
        The id of the store; '' when it is away.

    Raises
    ------
    ConfigError
        An address is invalid.
    StoreInvalid
        The database is not ours, or from a newer version.
    """
    open_ledger(settings).close()
    try:
        store = open_store(settings.database_url)
    except StoreError as error:
        if not error.retryable:
            raise
        log.warning("starting without the database: %s", error, extra={"action": "store_away"})
        return ""
    store.close()
    return store.store_id
