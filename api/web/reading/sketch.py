"""Painted queries: `mode=sketch`. In a sketch, colours and large shapes are less exact than in a picture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from api.search.interface import Search
from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters
from iqdb_core.model import Match, Signature

Rank = Callable[[Signature, int, float | None], Awaitable[list[Match]]]


def ranking_of(search: Search, params: Parameters) -> Rank:
    """Return the search for this request: `Search.query`, or `Search.sketch` for a painted picture.

    Raises
    ------
    BadRequest
        The mode is unknown, or combined with a search for copies.
    """
    mode = params.text("mode")
    if mode is None:
        return search.query
    if mode != "sketch":
        raise BadRequest("mode must be 'sketch', or be left out")
    if params.get("find") is not None or params.get("turns") is not None:
        raise BadRequest("a sketch has no copies: leave out either 'mode' or 'find' and 'turns'")
    return search.sketch
