"""A typed client of the server's HTTP API, blocking (`Client`) and asynchronous (`AsyncClient`).

    from iqdb_client import Client

    with Client("http://localhost:5588") as iqdb:
        iqdb.add(1234, Path("picture.jpg"))
        for match in iqdb.query(Path("picture.jpg"), find="copies"):
            print(match.post_id, match.likelihood)

A server that is busy or starting (429, 503) is asked again, when it says so.
"""

from iqdb_client.clients import AsyncClient, Client
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
