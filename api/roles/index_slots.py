"""Index directories for query nodes that are started alike: each takes the first that is free.

`docker compose up --scale query=2` starts nodes that share a volume and every setting. A directory with
"{n}" in its name stands for as many as there are nodes; who is restarted finds its old one, or another's
that is as good.
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
    """Return `pattern` with its place filled in by the first number that no other process has.

    Parameters
    ----------
    pattern : str
        Without the place it is returned as it is.
    stack : ExitStack
        Gives the number back when it closes; the end of the process does as well.

    Raises
    ------
    ConfigError
        The directory above cannot be written.
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
