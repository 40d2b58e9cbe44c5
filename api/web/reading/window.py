"""The window of a query: which of the matches are wanted. Called by the routes, for queries of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters
from api.web.reading.requests import image_id_from, json_image_id

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10_000
MAX_EXCLUDED: Final = 1_000


class Window(NamedTuple):
    """Which matches of a query are wanted.

    Parameters
    ----------
    limit : int
    offset : int
        Matches skipped before the first.
    exclude : frozenset of int
        Ids left out.
    min_score : float or None
        Matches below it are left out.
    """

    limit: int
    offset: int
    exclude: frozenset[int]
    min_score: float | None


def window_of(params: Parameters) -> Window:
    """Return which matches a request wants."""
    limit = params.integer("limit", 1, MAX_LIMIT)
    offset = params.integer("offset", 0, MAX_OFFSET)
    return Window(
        limit=DEFAULT_LIMIT if limit is None else limit,
        offset=offset or 0,
        exclude=_excluded(params.get("exclude")),
        min_score=params.number("min_score"),
    )


def _excluded(value: object) -> frozenset[int]:
    if value is None:
        return frozenset()
    words: Sequence[object]
    if isinstance(value, str):
        words = value.split(",", MAX_EXCLUDED)
    elif isinstance(value, list):
        words = value
    else:
        words = [value]
    if len(words) > MAX_EXCLUDED:
        raise BadRequest(f"exclude takes at most {MAX_EXCLUDED} ids")
    return frozenset(
        image_id_from(word.strip()) if isinstance(word, str) else json_image_id(word) for word in words
    )
