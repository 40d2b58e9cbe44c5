"""Duplicates of the whole store, page by page, by the index's own search.

Answers: which images from here on show what another one shows? Each image is looked up with a high bar, which
is quick; only what clears it is looked at closely. Called by `local`, and by the command line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iqdb_core.duplicates import MAX_GROUP, Group, Near, Pair, groups_of
from iqdb_core.index import ImageIndex
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.model import Asked, Signature

MOST_NEAR: Final = 50
"""Copies of one image that are looked at, unless there are more."""
PAGE_IMAGES: Final = 2_000
PAGE_S: Final = 0.5
"""A page ends after so many images, or so much time."""
MIN_SCORE: Final = 60.0
MIN_DETAIL: Final = 60.0


@dataclass(frozen=True, slots=True)
class DuplicatesWanted:
    """Which duplicates to tell.

    Parameters
    ----------
    after : int
        Ids up to this one were looked at before; -1 begins.
    min_likelihood : float
        Of a pair, 0..1.
    min_detail : float
        Bits; plain pictures below it are no duplicates of anything.
    min_score : float
        The bar of the first look.
    """

    after: int = -1
    min_likelihood: float = LIKELY
    min_detail: float = MIN_DETAIL
    min_score: float = MIN_SCORE


@dataclass(frozen=True, slots=True)
class DuplicatesPage:
    """Some groups, and where to go on.

    Parameters
    ----------
    groups : tuple of Group
        By their smallest id.
    looked_at : int
        Images of this page.
    next_after : int or None
        The last id looked at; None at the end of the store.
    """

    groups: tuple[Group, ...]
    looked_at: int
    next_after: int | None


def find_duplicates(index: ImageIndex, wanted: DuplicatesWanted, ids: Sequence[int]) -> DuplicatesPage:
    """Return the next groups.

    Parameters
    ----------
    index : ImageIndex
    wanted : DuplicatesWanted
    ids : sequence of int
        The next `PAGE_IMAGES` live images above `wanted.after`, ascending; fewer at the end of the store.
    """
    end = time.monotonic() + PAGE_S
    looked_at: list[int] = []

    def timely() -> Iterator[int]:
        for image_id in ids:
            if looked_at and time.monotonic() > end:
                return
            looked_at.append(image_id)
            yield image_id

    groups = tuple(groups_of(timely(), _Near(index, wanted).of))
    is_end = len(looked_at) == len(ids) < PAGE_IMAGES
    return DuplicatesPage(groups, len(looked_at), None if is_end or not looked_at else looked_at[-1])


class _Near:
    """The copies of one image after another, for as long as a page takes.

    Images of one signature have the same, and one picture may be there hundreds of times: what was found for
    the last signature is kept.
    """

    def __init__(self, index: ImageIndex, wanted: DuplicatesWanted) -> None:
        self._index = index
        self._wanted = wanted
        self._signature: Signature | None = None
        self._found: list[Near] = []

    def of(self, image_id: int) -> list[Near]:
        signature = self._index.get(image_id)
        if signature is None:
            return []
        if signature != self._signature:
            self._signature, self._found = signature, self._search(signature)
        return [near for near in self._found if near.image_id != image_id]

    def _search(self, signature: Signature) -> list[Near]:
        if len(self._index.query(signature, 2, self._wanted.min_score)) < 2:
            return []
        for limit in (MOST_NEAR, MAX_GROUP + 1):
            copies = self._index.find_copies(
                [Asked(signature)],
                limit=limit,
                min_score=self._wanted.min_score,
                min_likelihood=self._wanted.min_likelihood,
                min_detail=self._wanted.min_detail,
            )
            if len(copies.matches) < limit:
                break
        if copies.detail < self._wanted.min_detail:
            return []
        return [Near(match.image_id, match.likelihood, match.score) for match in copies.matches]


def page_body(page: DuplicatesPage) -> dict[str, Any]:
    """Return a page as JSON has it."""
    return {
        "groups": [
            {
                "post_ids": list(group.image_ids),
                "pairs": [
                    {
                        "post_ids": [pair.first, pair.second],
                        "likelihood": pair.likelihood,
                        "score": pair.score,
                    }
                    for pair in group.pairs
                ],
                **({} if group.is_whole else {"truncated": True}),
            }
            for group in page.groups
        ],
        "looked_at": page.looked_at,
        "next": page.next_after,
    }


def page_of(body: Any) -> DuplicatesPage:
    """Return what `page_body` made."""
    groups = tuple(
        Group(
            tuple(group["post_ids"]),
            tuple(_pair(pair) for pair in group["pairs"]),
            not group.get("truncated", False),
        )
        for group in body["groups"]
    )
    return DuplicatesPage(groups, body["looked_at"], body["next"])


def _pair(body: Any) -> Pair:
    first, second = body["post_ids"]
    return Pair(first, second, body["likelihood"], body["score"])
