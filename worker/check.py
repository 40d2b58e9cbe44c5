"""`python -m worker.check`: is a worker of this machine alive? For container health checks.

Asks the ledger, to which every worker reports with each sweep. Imports no Celery and no kernels: asking often
is cheap.
"""

from __future__ import annotations

import os
import socket
import sys

from iqdb_core.errors import IqdbError
from iqdb_core.jobs import JobReader, Keys, RedisPort
from iqdb_core.jobs.reading import silence_s
from iqdb_core.settings import Settings


def main() -> None:
    """Exit 0 if a worker of this machine reported lately; else 1, saying why on standard error."""
    try:
        settings = Settings.read()
        limit_s = silence_s(settings.sweep_s)
        port = RedisPort.connect(settings.redis_url, sentinel_master=settings.redis_sentinel_master)
        try:
            workers = JobReader(port, keys=Keys(settings.redis_prefix), silent_s=limit_s).workers()
        finally:
            port.close()
    except IqdbError as error:
        sys.exit(str(error))
    if not any(age_s < limit_s for name, age_s in workers.items() if is_of(name, socket.gethostname())):
        sys.exit("no worker of this machine has reported lately")


def worker_name() -> str:
    """Return the name by which this process reports to the ledger."""
    return f"iqdb@{socket.gethostname()}-{os.getpid()}"


def is_of(name: str, host: str) -> bool:
    """Whether the worker of this name runs on `host`."""
    return name.rpartition("-")[0] == f"iqdb@{host}"


if __name__ == "__main__":
    main()
