"""Which images of the whole store show the same picture? Pairs of copies, joined to groups.

Answers from what a search for copies says of each image; knows no index, store or web. Called by the search
seam and the command line.

A group is told once, at its smallest id, so that a walk in pages of ascending ids neither repeats nor misses
one, with nothing remembered between the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MAX_GROUP: Final = 1000
"""A group is told with so many images at most; one picture more often than that is another problem."""
MOST_PAIRED: Final = 50
"""A group of more images is told with the likeliest pair of each, instead of with every pair."""


@dataclass(frozen=True, slots=True)
class Near:
    """A copy of some image, as a search for it found it.

    Parameters
    ----------
    image_id : int
    likelihood : float
        0..1 that both show the same picture.
    score : float
    """

    image_id: int
    likelihood: float
    score: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that show the same picture, the smaller id first; `likelihood` and `score` as in `Near`."""

    first: int
    second: int
    likelihood: float
    score: float


@dataclass(frozen=True, slots=True)
class Group:
    """Images that copies join.

    Parameters
    ----------
    image_ids : tuple of int
        Ascending.
    pairs : tuple of Pair
        Every pair among them that was found, in order; in a group of more than `MOST_PAIRED` the likeliest of
        each image.
    is_whole : bool
        Whether no more images belong to it than are told.
    """

    image_ids: tuple[int, ...]
    pairs: tuple[Pair, ...]
    is_whole: bool = True


Search = Callable[[int], list[Near]]
"""Returns the copies of an image, itself left out; an image that is gone has none."""


def groups_of(image_ids: Iterable[int], copies_of: Search, *, max_group: int = MAX_GROUP) -> Iterator[Group]:
    """Yield the groups whose smallest id is among `image_ids`.

    Parameters
    ----------
    image_ids : iterable of int
        Ascending.
    copies_of : callable
        See `Search`; asked once per image for as long as this runs, more or less.
    max_group : int
        Members beyond so many are left out of a group, at least 2.

    Notes
    -----
    Two images are a pair when either finds the other. Where only the larger one finds the smaller, the group
    is told at the larger one's own turn as well, unless the walk has passed the smaller one before.
    """
    known: dict[int, list[Near]] = {}

    def found(image_id: int) -> list[Near]:
        if image_id not in known:
            known[image_id] = copies_of(image_id)
        return known[image_id]

    told: set[int] = set()
    for image_id in image_ids:
        if image_id in told:
            told.discard(image_id)
            known.pop(image_id, None)
            continue
        group, is_whole = _grown(image_id, found, max_group)
        if len(group) > 1 and min(group) == image_id:
            yield Group(tuple(sorted(group)), _pairs(group, found), is_whole)
        # What lies behind is not asked for again, except as a member of a group that is still to come.
        told.update(member for member in group if member > image_id)
        known.pop(image_id, None)


def _grown(first: int, found: Search, max_group: int) -> tuple[set[int], bool]:
    """Return an image with all that copies join to it, at most `max_group`, and whether that is all.

    Stops at a smaller id.
    """
    group = {first}
    border = [first]
    is_whole = True
    while border:
        strangers = [near for near in found(border.pop(0)) if near.image_id not in group]
        smallest = min((near.image_id for near in strangers), default=first)
        if smallest < first:
            # Told, with all of its members, when the walk was there.
            return {first, smallest}, True
        for near in sorted(strangers, key=lambda near: (-near.likelihood, near.image_id)):
            if len(group) == max_group:
                is_whole = False
                break
            group.add(near.image_id)
            border.append(near.image_id)
    return group, is_whole


def _pairs(group: set[int], found: Search) -> tuple[Pair, ...]:
    best: dict[tuple[int, int], Pair] = {}
    for image_id in group:
        others = [near for near in found(image_id) if near.image_id in group and near.image_id != image_id]
        if len(group) > MOST_PAIRED:
            others = [min(others, key=lambda near: (-near.likelihood, near.image_id))] if others else []
        for near in others:
            first, second = sorted((image_id, near.image_id))
            before = best.get((first, second))
            if before is None or near.likelihood > before.likelihood:
                best[first, second] = Pair(first, second, near.likelihood, near.score)
    return tuple(best[key] for key in sorted(best))
