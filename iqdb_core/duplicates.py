"""Finds groups of images that show the same picture: joins pairs of copies to groups.

Uses the results of a search for copies of each image; knows no index, store or web. Called by the search seam
and the command line.

Two images are a *pair* if each finds the other. Searches are not symmetric: a grey copy finds its coloured
original, which may not find it. Requiring both directions makes pairs symmetric, so that a group is the same
whichever of its images is examined first. Each group is reported once, at its smallest id: a walk in pages of
ascending ids neither repeats nor misses a group, and needs no memory between pages.

A group that is too large, or for which time runs out, is reported in parts. Such a group may seem to begin at
several ids: at each image that has no pair with a smaller id. To report each image of it only once, follow
from the image to its smallest pair, from there to the smallest pair of that one, and so on. The image belongs
where this path ends, which does not depend on how much of the group was seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

MAX_GROUP: Final = 1000
"""Size limit of a group; a picture stored more often than that is another problem."""
MOST_PAIRED: Final = 50
"""Larger groups are reported with the most likely pair of each image instead of every pair."""


@dataclass(frozen=True, slots=True)
class Near:
    """A copy of an image, as found by a search.

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
    """Two images that find each other, smaller id first; `likelihood` and `score` of the better direction."""

    first: int
    second: int
    likelihood: float
    score: float


@dataclass(frozen=True, slots=True)
class Group:
    """Images joined by pairs.

    Parameters
    ----------
    image_ids : tuple of int
        Ascending.
    pairs : tuple of Pair
        Every pair among them, in order; in a group of more than `MOST_PAIRED`, the most likely pair of
        each image.
    is_whole : bool
        Whether the group is complete.
    """

    image_ids: tuple[int, ...]
    pairs: tuple[Pair, ...]
    is_whole: bool = True


Found = Mapping[int, Near]
"""Copies of an image, by their ids."""
Search = Callable[[int], Found]
"""Returns the copies of an image, perhaps including itself; a deleted image has none."""


class GroupWalk:
    """A walk over images by ascending id, which reports each group at its smallest id.

    Parameters
    ----------
    copies_of : callable
        See `Search`; called once per image.
    max_group : int
        Largest group; further members are left out. At least 2.
    is_late : callable
        Whether time is up; once true, it stays true. Called before each search except the first of a group.

    Notes
    -----
    Unless time runs out, results do not depend on where the walk began, nor on earlier results. No image is
    in two groups, with one exception: a group that was reported complete at its smallest id, and later, when
    examined from another id, took so long that time ran out before any smaller id was seen.
    """

    def __init__(
        self,
        copies_of: Search,
        *,
        max_group: int = MAX_GROUP,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._copies_of = copies_of
        self._max_group = max_group
        self._is_late = is_late
        self._known: dict[int, Found] = {}
        self._reported: set[int] = set()
        self.is_cut = False
        """Whether time ran out before the last group was complete."""

    def group_at(self, image_id: int) -> Group | None:
        """Return the group whose smallest image this is, None if there is none.

        If time runs out, images that are not certain to belong here are left out; None if that leaves this
        image alone.
        """
        self.is_cut = False
        if image_id in self._reported:
            return None
        members, is_whole = self._grow(image_id)
        if not is_whole:
            members = self._belonging_to(image_id, members)
        self._reported |= members
        if len(members) < 2:
            return None
        return Group(tuple(sorted(members)), self._pairs(members), is_whole)

    def _grow(self, first: int) -> tuple[set[int], bool]:
        """Return the images joined to this one and whether that is all; nothing if one has a smaller id."""
        group = {first}
        border = deque(group)
        while border:
            member = border.popleft()
            for other in self._outside(member, first, group):
                if self._is_time_up():
                    return group, False
                if not self._is_pair(member, other):
                    continue
                if other < first:
                    return set(), True
                if len(group) == self._max_group:
                    return group, False
                group.add(other)
                border.append(other)
        return group, True

    def _outside(self, member: int, first: int, group: set[int]) -> list[int]:
        """Return the images that a member finds outside its group; ids below `first` come first."""
        found = self._found(member)
        outside = [other for other in found if other not in group]
        return sorted(outside, key=lambda other: (other > first, -found[other].likelihood, other))

    def _belonging_to(self, first: int, members: set[int]) -> set[int]:
        """Return the members whose path of smallest pairs certainly ends at `first`."""
        belonging: set[int] = set()
        for member in sorted(members):
            smallest = self._smallest_pair(member)
            if smallest in belonging or smallest == member == first:
                belonging.add(member)
        return belonging

    def _smallest_pair(self, image_id: int) -> int | None:
        """Return the smallest image paired with this one, or itself if smaller; None if time is up."""
        for other in sorted(other for other in self._found(image_id) if other < image_id):
            if other not in self._known and self._is_time_up():
                return None
            if self._is_pair(image_id, other):
                return other
        return image_id

    def _is_pair(self, one: int, other: int) -> bool:
        return other in self._found(one) and one in self._found(other)

    def _found(self, image_id: int) -> Found:
        if image_id not in self._known:
            self._known[image_id] = self._copies_of(image_id)
        return self._known[image_id]

    def _is_time_up(self) -> bool:
        self.is_cut = self.is_cut or self._is_late()
        return self.is_cut

    def _pairs(self, group: set[int]) -> tuple[Pair, ...]:
        pairs: set[Pair] = set()
        for member in group:
            own: Iterator[Pair] | list[Pair] = self._pairs_of(member, group)
            if len(group) > MOST_PAIRED:
                own = [min(own, key=lambda pair: (-pair.likelihood, pair.first, pair.second))]
            pairs.update(own)
        return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))

    def _pairs_of(self, member: int, group: set[int]) -> Iterator[Pair]:
        for other, there in self._known[member].items():
            if other != member and other in group and member in self._known[other]:
                surer = max(there, self._known[other][member], key=lambda near: (near.likelihood, near.score))
                first, second = sorted((member, other))
                yield Pair(first, second, surer.likelihood, surer.score)
