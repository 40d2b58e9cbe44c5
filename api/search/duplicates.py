"""Finds duplicates in the whole store, page by page, with the index's own search.

Each image is first searched with a high minimum score, which is quick; only images with such a match are
examined closely. Called by `local`, and by the command line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iqdb_core.duplicates import MAX_GROUP, Found, Group, GroupWalk, Near, Pair
from iqdb_core.errors import IndexNotReady, IqdbError
from iqdb_core.index import ImageIndex
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.model import QuerySignature, Signature

MOST_NEAR: Final = 50
"""Copies of one image that are fetched at first; if there are more, up to `MAX_GROUP` are fetched."""
PAGE_IMAGES: Final = 2_000
PAGE_S: Final = 0.5
"""A page ends after this many seconds, or this many images; the current group may still be completed."""
WALK_S: Final = 1.0
"""On a server the current group is cut off after its page took this many seconds; front ends wait longer."""
WALKS: Final = 2
"""Pages computed at once. Each takes as long as hundreds of queries."""
MIN_SCORE: Final = 60.0
MIN_DETAIL: Final = 60.0


@dataclass(frozen=True, slots=True)
class DuplicatesWanted:
    """Which duplicates are wanted.

    Parameters
    ----------
    after : int
        Ids up to this one have been examined; -1 to begin.
    min_likelihood : float
        Of a pair, 0..1.
    min_detail : float
        Bits; plainer pictures count as duplicates of nothing.
    min_score : float
        The minimum score of the first search.
    """

    after: int = -1
    min_likelihood: float = LIKELY
    min_detail: float = MIN_DETAIL
    min_score: float = MIN_SCORE


@dataclass(frozen=True, slots=True)
class DuplicatesPage:
    """Some groups, and where the next page begins.

    Parameters
    ----------
    groups : tuple of Group
        By their smallest id.
    looked_at : int
        Images examined for this page.
    next_after : int or None
        The last id examined; None at the end of the store.
    """

    groups: tuple[Group, ...]
    looked_at: int
    next_after: int | None


class TooManyWalks(IqdbError):
    """The limit of pages of duplicates that are computed at once is reached."""

    retryable = True

    def __init__(self) -> None:
        super().__init__(f"{WALKS} pages of duplicates are being computed already; ask again later")


def find_duplicates(
    index: ImageIndex,
    wanted: DuplicatesWanted,
    ids: Sequence[int],
    *,
    walk_s: float = math.inf,
    is_stopped: Callable[[], bool] = lambda: False,
) -> DuplicatesPage:
    """Return the next groups.

    Parameters
    ----------
    index : ImageIndex
    wanted : DuplicatesWanted
    ids : sequence of int
        The next `PAGE_IMAGES` live images above `wanted.after`, ascending; fewer at the end of the store.
    walk_s : float
        When the page has taken this many seconds, the current group is returned incomplete: with low
        thresholds, one group could take thousands of searches.
    is_stopped : callable
        Whether to stop; called before each search.

    Raises
    ------
    IndexNotReady
        It was stopped.
    """
    began = time.monotonic()
    walk = GroupWalk(_Near(index, wanted, is_stopped).of, is_late=lambda: time.monotonic() > began + walk_s)
    groups: list[Group] = []
    looked_at = 0
    for image_id in ids:
        if looked_at and time.monotonic() > began + PAGE_S:
            break
        group = walk.group_at(image_id)
        if walk.is_cut and looked_at:
            # This image begins the next page, which has its full time for it.
            break
        looked_at += 1
        if group is not None:
            groups.append(group)
    is_end = looked_at == len(ids) < PAGE_IMAGES
    return DuplicatesPage(tuple(groups), looked_at, None if is_end or not looked_at else ids[looked_at - 1])


class _Near:
    """Finds the copies of images, one after the other, for one page.

    One picture may be stored hundreds of times, and equal signatures have equal copies: the result for the
    last signature is kept.
    """

    def __init__(self, index: ImageIndex, wanted: DuplicatesWanted, is_stopped: Callable[[], bool]) -> None:
        self._index = index
        self._wanted = wanted
        self._is_stopped = is_stopped
        self._signature: Signature | None = None
        self._found: Found = {}

    def of(self, image_id: int) -> Found:
        if self._is_stopped():
            raise IndexNotReady("the server is stopping")
        signature = self._index.get(image_id)
        if signature is None:
            return {}
        if signature != self._signature:
            self._signature, self._found = signature, self._search(signature)
        return self._found

    def _search(self, signature: Signature) -> Found:
        if len(self._index.query(signature, 2, self._wanted.min_score)) < 2:
            return {}
        for limit in (MOST_NEAR, MAX_GROUP + 1):
            copies = self._index.find_copies(
                [QuerySignature(signature)],
                limit=limit,
                min_score=self._wanted.min_score,
                min_likelihood=self._wanted.min_likelihood,
                min_detail=self._wanted.min_detail,
            )
            if len(copies.matches) < limit:
                break
        if copies.detail < self._wanted.min_detail:
            return {}
        return {
            match.image_id: Near(match.image_id, match.likelihood, match.score) for match in copies.matches
        }


def page_body(page: DuplicatesPage) -> dict[str, Any]:
    """Return a page as a JSON object."""
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
    """Parse what `page_body` made."""
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
