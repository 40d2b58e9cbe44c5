"""Index directories for query nodes with the same settings: each takes the first free one.

`docker compose up --scale query=2` starts nodes that share a volume and all settings. A directory with "{n}"
in its name stands for one per node. A restarted node finds its old directory, or that of another node, which
is just as good.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from iqdb_core.errors import ConfigError

PLACE: Final = "{n}"


def claim_directory(pattern: str, stack: ExitStack) -> str:
    """Return `pattern` with the first number filled in that no other process uses.

    Parameters
    ----------
    pattern : str
        Returned as it is if it has no "{n}".
    stack : ExitStack
        Releases the number when it closes; so does the end of the process.

    Raises
    ------
    ConfigError
        The parent directory cannot be written.
    """
    if PLACE not in pattern:
        return pattern
    for number in itertools.count():
        directory = Path(pattern.replace(PLACE, str(number)))
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            claim = os.open(f"{directory}.claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise ConfigError(f"the index directory {directory} cannot be made: {exc.strerror}") from exc
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            continue
        stack.callback(os.close, claim)
        return str(directory)
    raise AssertionError("there is always a next number")
