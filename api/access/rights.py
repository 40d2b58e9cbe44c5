"""Which right each path needs.

A path that is not named here needs the right to write unless the method only reads, so that a new route that
changes something is closed by default. Called by `policy`, the limits, and the description of the API;
`tests/e2e/test_rights.py` has the same table in full.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Right(IntEnum):
    """What a caller may do; each includes those below it."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_OPEN: Final = frozenset({"/", "/live", "/ready", "/favicon.ico"})
"""Open to all: process managers have no token, and the page has to ask for one."""
_OPEN_BELOW: Final = "/static/"
_QUERIES: Final = ("/query/", "/images/missing/")
"""These use POST because a query may be long, but change nothing."""
_ADMIN: Final = frozenset({"/export", "/changes", "/metrics"})
"""These give all contents, or internals of the server."""


def right_for(method: str, path: str) -> Right:
    """Return the right that a request needs.

    Parameters
    ----------
    method : str
        In upper case.
    path : str
        Without the prefix that a proxy added.
    """
    path = path.rstrip("/") or "/"
    if path in _ADMIN:
        return Right.ADMIN
    is_query = method == "POST" and f"{path}/".startswith(_QUERIES)
    if method not in READING and not is_query:
        return Right.WRITE
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Right.NONE
    return Right.READ
