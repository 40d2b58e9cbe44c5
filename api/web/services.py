"""The services that routes use, as one value made by the composition root; it hides the mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from api.contents.reader import ContentsReader
from api.ingestion.hashing import Hasher
from api.ingestion.interface import Ingestion
from api.search.interface import Search
from api.web.loading import startup_of


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a running front end consists of.

    Parameters
    ----------
    ingestion, search : the two seams
    hasher : Hasher
        Computes the signature of a query's picture, in either mode.
    contents : ContentsReader
        Reads everything that is stored.
    summary : str
        What is being served, for the ready line.
    close : callable
        Finishes what is in flight and frees everything, in reverse order of making. Blocking.
    trouble : callable
        Returns additional fields for `/status`: what fails in this process, and why.
    """

    ingestion: Ingestion
    search: Search
    hasher: Hasher
    contents: ContentsReader
    summary: str
    close: Callable[[], None]
    trouble: Callable[[], Mapping[str, Any]] = dict


def services_of(request: Request) -> Services:
    """Return the services behind a request; raises IndexNotReady while they are loading."""
    services: Services = startup_of(request).require()
    return services
