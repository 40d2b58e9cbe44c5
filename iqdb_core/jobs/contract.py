"""The words that api and worker must agree on: task, queue, keys, channels and timeouts.

Never imports Celery: the api builds its own producer from `transport_options`, the worker its consumer, and a
difference between the two would lose messages silently.
"""

from __future__ import annotations

from typing import Any, Final

TASK_INGEST: Final = "iqdb.ingest"
"""Celery task; its only argument is a list of job ids."""
QUEUE: Final = "iqdb"
CHUNK_JOBS: Final = 32
"""Most job ids in one message, and so most images in one transaction of a worker."""

KEY_PREFIX: Final = "iqdb:"
"""Every key of ours in Redis starts with it, Celery's own included."""
BROKER_PREFIX: Final = f"{KEY_PREFIX}celery:"
QUEUE_KEY: Final = f"{BROKER_PREFIX}{QUEUE}"
"""The Redis list in which Celery keeps waiting messages, first in first out."""

CHANGES_CHANNEL: Final = f"{KEY_PREFIX}changes"
"""A seq is published here after each commit: a hint for followers, who would find it by polling."""
FINISHED_CHANNEL: Final = f"{KEY_PREFIX}finished"
"""Ids of jobs that became final, separated by spaces: a hint for those who wait, as above."""

VISIBILITY_TIMEOUT_S: Final = 60
"""How long a message may be out with a worker before another gets it. Tasks are bounded well below."""
SOCKET_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 2.0
HEALTH_CHECK_S: Final = 15


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
