"""What those who send Celery messages and those who take them must agree on: task, size and transport.

Never imports Celery: the api builds its own producer from `transport_options`, the worker its consumer, and a
difference between the two would lose messages silently.
"""

from __future__ import annotations

from typing import Any, Final

from iqdb_core.jobs.connection import CONNECT_TIMEOUT_S, HEALTH_CHECK_S
from iqdb_core.jobs.keys import BROKER_PREFIX

TASK_INGEST: Final = "iqdb.ingest"
"""Celery task; its only argument is a list of job ids."""
CHUNK_JOBS: Final = 32
"""Most job ids in one message, and so most images in one transaction of a worker."""

VISIBILITY_TIMEOUT_S: Final = 60
"""How long a message may be out with a worker before another gets it. Tasks are bounded well below."""


def transport_options(visibility_timeout_s: int = VISIBILITY_TIMEOUT_S) -> dict[str, Any]:
    """Return Celery's `broker_transport_options`, the same for those who send and those who consume.

    Parameters
    ----------
    visibility_timeout_s : int
        Seconds after which an unacknowledged message is delivered again; must exceed the worker's time limit.

    Notes
    -----
    Celery looks for such messages every `unacked_restore_interval * unacked_restore_throttle` seconds; its
    defaults make that 100, whatever the timeout says. Versions that do not know the two options ignore them,
    and the ledger's own sweep still finds the jobs.
    """
    return {
        "global_keyprefix": BROKER_PREFIX,
        "visibility_timeout": visibility_timeout_s,
        "unacked_restore_interval": max(1, min(10, visibility_timeout_s // 4)),
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }
