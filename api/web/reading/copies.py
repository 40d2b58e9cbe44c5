"""Searching for copies: the parameters beyond IQDB's, and the additional fields of matches.

Without any of these parameters a query is answered as by IQDB. Called by the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.search.interface import CopiesWanted
from api.web.answers import Dialect, image_body, named_source
from api.web.errors import BadRequest
from api.web.reading.parameters import Parameters
from api.web.reading.window import window_of
from iqdb_core.model import Copies

TURNS: Final = ("none", "mirror", "all")
NEGATIVE: Final = "negative"


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
        min_score=window.min_score,
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
