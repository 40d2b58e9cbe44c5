"""A typed client of the server's HTTP API, blocking (`Client`) and asynchronous (`AsyncClient`).

    from iqdb_client import Client

    with Client("http://localhost:5588") as iqdb:
        iqdb.add(1234, Path("picture.jpg"))
        for match in iqdb.query(Path("picture.jpg"), find="copies"):
            print(match.post_id, match.likelihood)

A server that is busy, starting or away is asked again, when it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqdb_client.errors import ClientError, Late, NotFound, Refused, Unauthorized, Unavailable
from iqdb_client.values import (
    Change,
    ChangePage,
    Image,
    Job,
    JobPage,
    Listed,
    Match,
    Matches,
    Outcome,
    Part,
    Picture,
    Question,
)

if TYPE_CHECKING:
    from iqdb_client.clients import AsyncClient, Client

__all__ = [
    "AsyncClient",
    "Change",
    "ChangePage",
    "Client",
    "ClientError",
    "Image",
    "Job",
    "JobPage",
    "Late",
    "Listed",
    "Match",
    "Matches",
    "NotFound",
    "Outcome",
    "Part",
    "Picture",
    "Question",
    "Refused",
    "Unauthorized",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    """Return a client; `httpx` is loaded once one is asked for, which few commands need."""
    if name not in {"AsyncClient", "Client"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iqdb_client import clients  # noqa: PLC0415 - see above

    return getattr(clients, name)
