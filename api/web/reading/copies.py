"""Searching for copies: the parameters beyond IQDB's, and the additional fields of matches.

Without any of these parameters a query is answered as by IQDB. Called by the routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.search.interface import CopiesWanted
from api.web.answers import Dialect, image_body, named_source
from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters
from api.web.reading.requests import DEFAULT_LIMIT, MAX_LIMIT, image_id_from, json_image_id
from iqdb_core.model import Copies

MAX_OFFSET: Final = 10_000
MAX_EXCLUDED: Final = 1_000
TURNS: Final = ("none", "mirror", "all")
NEGATIVE: Final = "negative"


@dataclass(frozen=True, slots=True)
class Window:
    """Which matches of a query are wanted.

    Parameters
    ----------
    limit : int
    offset : int
        Matches skipped before the first.
    exclude : frozenset of int
        Ids left out.
    """

    limit: int
    offset: int
    exclude: frozenset[int]


def window_of(params: Parameters) -> Window:
    """Return which matches a request wants."""
    limit = params.integer("limit", 1, MAX_LIMIT)
    offset = params.integer("offset", 0, MAX_OFFSET)
    return Window(DEFAULT_LIMIT if limit is None else limit, offset or 0, _excluded(params.get("exclude")))


def copies_wanted(params: Parameters) -> CopiesWanted | None:
    """Return how to search for copies, None for a plain query.

    Raises
    ------
    BadRequest
        A word that is not understood, or one that means nothing without `find=copies` or `turns`.
    """
    find, turns = params.text("find"), params.text("turns")
    if find not in {None, "copies"}:
        raise BadRequest("find must be 'copies', or be left out")
    least = {"min_likelihood": min_likelihood_of(params), "min_detail": params.number("min_detail")}
    if find is None and turns is None:
        for name, value in least.items():
            if value is not None:
                raise BadRequest(f"{name} needs find=copies or turns")
        return None
    window = window_of(params)
    return CopiesWanted(
        limit=window.limit,
        offset=window.offset,
        exclude=window.exclude,
        turns=_turns(turns),
        has_parts=find is not None,
        min_score=params.number("min_score"),
        **least,
    )


def min_likelihood_of(params: Parameters) -> float | None:
    """Return the minimum likelihood of a match, if a request sets one."""
    likelihood = params.number("min_likelihood")
    if likelihood is not None and not 0 <= likelihood <= 1:
        raise BadRequest("min_likelihood must be a number from 0 to 1")
    return likelihood


def copy_bodies(copies: Copies, sources: Mapping[int, str], dialect: Dialect) -> list[dict[str, Any]]:
    """Return the body of an answer, most likely match first."""
    bodies = []
    for match in copies.matches:
        body = image_body(match.image_id, match.signature, dialect)
        body["score"] = match.score
        body["likelihood"] = match.likelihood
        body["detail"] = match.detail
        body["turn"] = match.turn
        if match.part is not None:
            part = match.part
            body["part"] = {"x": part.x, "y": part.y, "width": part.width, "height": part.height}
        bodies.append(body | named_source(sources, match.image_id))
    return bodies


def _turns(text: str | None) -> str | None:
    if text is None:
        return None
    words = text.split(",")
    if not (words[0] in TURNS and words[1:] in ([], [NEGATIVE])):
        raise BadRequest(f"turns must be one of {', '.join(TURNS)}, with or without ',{NEGATIVE}'")
    return text


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
