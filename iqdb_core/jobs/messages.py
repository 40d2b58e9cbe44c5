"""What producers and consumers of Celery messages must agree on: the task, sizes and transport options.

A message says only that there is work; a task claims jobs from the ledger. Never imports Celery: the api
builds its producer from `transport_options`, the worker its consumer, and a difference between the two would
lose messages silently.
"""

from __future__ import annotations

from typing import Any, Final

from iqdb_core.jobs.connection import CONNECT_TIMEOUT_S, HEALTH_CHECK_S, SOCKET_TIMEOUT_S
from iqdb_core.jobs.keys import DEFAULT_KEYS, Keys

TASK_INGEST: Final = "iqdb.ingest"
"""Name of the Celery task, which has no arguments."""
CLAIM_JOBS: Final = 32
"""Most jobs in one claim, and so most images in one transaction of a worker; also in `lua/common.lua`."""

VISIBILITY_TIMEOUT_S: Final = 60
"""How long a worker may hold a message or a claim before another one gets it; above the tasks' time limit."""


def transport_options(
    keys: Keys = DEFAULT_KEYS, visibility_timeout_s: int = VISIBILITY_TIMEOUT_S, sentinel_master: str = ""
) -> dict[str, Any]:
    """Return Celery's `broker_transport_options`, the same for producers and consumers.

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
    defaults make that 100, whatever the timeout is. Versions that do not know these options ignore them, and
    the sweep still finds the jobs. A worker holds a lock while it looks. If it is killed then, the lock
    stays, by default for 300 seconds, in which no worker looks. The lock only saves work (each message is
    returned in a transaction of its own), so here it expires before the next look.
    """
    restore_s = max(1, min(10, visibility_timeout_s // 4))
    options: dict[str, Any] = {
        "global_keyprefix": keys.broker_prefix,
        "visibility_timeout": visibility_timeout_s,
        "unacked_restore_interval": restore_s,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": restore_s,
        # A peer that never answers would block its caller for ever. This does not limit how long Celery waits
        # for a message: it reads only from sockets that have data.
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }
    if sentinel_master:
        options["master_name"] = sentinel_master
    return options
