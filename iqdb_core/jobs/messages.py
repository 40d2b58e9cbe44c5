"""What those who send Celery messages and those who take them must agree on: task, size and transport.

A message says only that there is work; a task claims jobs from the ledger. Never imports Celery: the api
builds its own producer from `transport_options`, the worker its consumer, and a difference between the two
would lose messages silently.
"""

from __future__ import annotations

from typing import Any, Final

from iqdb_core.jobs.connection import CONNECT_TIMEOUT_S, HEALTH_CHECK_S, SOCKET_TIMEOUT_S
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys

TASK_INGEST: Final = "iqdb.ingest"
"""Celery task; without arguments."""
CLAIM_JOBS: Final = 32
"""Most jobs in one claim, and so most images in one transaction of a worker; `lua/common.lua` has it, too."""

VISIBILITY_TIMEOUT_S: Final = 60
"""How long a message or a claim may be out with a worker before another gets it. Tasks are bounded below."""


def transport_options(
    keys: Keys = DEFAULT_KEYS, visibility_timeout_s: int = VISIBILITY_TIMEOUT_S, sentinel_master: str = ""
) -> dict[str, Any]:
    """Return Celery's `broker_transport_options`, the same for those who send and those who consume.

    Parameters
    ----------
    keys : Keys
    visibility_timeout_s : int
        Seconds after which an unacknowledged message is delivered again; must exceed the worker's time limit.
    sentinel_master : str
        What the sentinels call the master; empty where the address is no sentinel's.

    Notes
    -----
    Celery looks for such messages every `unacked_restore_interval * unacked_restore_throttle` seconds; its
    defaults make that 100, whatever the timeout says. Versions that do not know these options ignore them,
    and the sweep still finds the jobs. Who looks holds a lock, which one that is killed meanwhile leaves
    behind: by default for 300 seconds, in which nobody looks. It only saves work (each message is given back
    in a transaction of its own), so here it ends by the next look.
    """
    restore_s = max(1, min(10, visibility_timeout_s // 4))
    options: dict[str, Any] = {
        "global_keyprefix": keys.broker_prefix,
        "visibility_timeout": visibility_timeout_s,
        "unacked_restore_interval": restore_s,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": restore_s,
        # A peer that takes what is sent and says nothing would hold up whoever waits for its answer. Waiting
        # for a message is not limited by it: Celery reads only where something has come.
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }
    if sentinel_master:
        options["master_name"] = sentinel_master
    return options
