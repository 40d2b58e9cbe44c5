"""Which images of the whole store show the same picture? Pairs of copies, joined to groups.

Answers from what a search for copies says of each image; knows no index, store or web. Called by the search
seam and the command line.

Two images are a *pair* when each finds the other. Searches differ by direction (a grey copy finds its
coloured original, which may not find it), and nobody can be asked who finds an image; only what both say is
seen from either side. So images joined by pairs are the same group whichever of them is looked at first, and
a group is told once, at its smallest id: a walk in pages of ascending ids neither repeats nor misses one,
with nothing remembered between the pages. Where only one of two finds the other, they are no pair.

A group that is too large, or for which there is no time, is told in part. Then nobody has seen all of it,
and it may look as if it began at several ids: at each that pairs with no smaller one. Of such a group an
image is told only where the way from it to its smallest pair, on to the smallest pair of that, and so on,
ends. That is one place, however much was seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
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
    """Two images that find each other, the smaller id first; `likelihood` and `score` of the surer one."""

    first: int
    second: int
    likelihood: float
    score: float


@dataclass(frozen=True, slots=True)
class Group:
    """Images that pairs join.

    Parameters
    ----------
    image_ids : tuple of int
        Ascending.
    pairs : tuple of Pair
        Every pair among them, in order; in a group of more than `MOST_PAIRED` the likeliest of each image.
    is_whole : bool
        Whether no more images belong to it than are told.
    """

    image_ids: tuple[int, ...]
    pairs: tuple[Pair, ...]
    is_whole: bool = True


Found = Mapping[int, Near]
"""Copies of an image, by their ids."""
Search = Callable[[int], Found]
"""Returns the copies of an image, itself perhaps among them; an image that is gone has none."""


class GroupWalk:
    """A walk over images by ascending ids, which tells each group at its smallest one.

    Parameters
    ----------
    copies_of : callable
        See `Search`; asked once per image.
    max_group : int
        Members beyond so many are left out of a group, at least 2.
    is_late : callable
        Whether time is up, once and for all; asked before each search but the first of a group.

    Notes
    -----
    What it tells does not depend on where the walk began, nor on what it told before, unless it is late. No
    image is in two groups, but for one case: a group that was told whole at its smallest id, and then, looked
    at from another one, was so much slower that time was up before any smaller id was seen.
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
        self._told: set[int] = set()
        self.is_cut = False
        """Whether time was up before the last group was seen whole."""

    def group_at(self, image_id: int) -> Group | None:
        """Return the group whose smallest image this is, None if there is none.

        One that is not whole may be without images of which it is not certain, before time is up, that they
        belong here; it is None if that leaves this image alone.
        """
        self.is_cut = False
        if image_id in self._told:
            return None
        members, is_whole = self._grown(image_id)
        if not is_whole:
            members = self._led_to(image_id, members)
        self._told |= members
        if len(members) < 2:
            return None
        return Group(tuple(sorted(members)), self._pairs(members), is_whole)

    def _grown(self, first: int) -> tuple[set[int], bool]:
        """Return what pairs join to an image, and whether that is all; nothing if a smaller one is in it."""
        group = {first}
        border = deque(group)
        while border:
            member = border.popleft()
            for other in self._strangers(member, first, group):
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

    def _strangers(self, member: int, first: int, group: set[int]) -> list[int]:
        """Return what a member finds outside of its group: smaller than all first, they end the walk."""
        found = self._found(member)
        strangers = [other for other in found if other not in group]
        return sorted(strangers, key=lambda other: (other > first, -found[other].likelihood, other))

    def _led_to(self, first: int, members: set[int]) -> set[int]:
        """Return which members surely lead to `first` from each to its smallest pair."""
        led: set[int] = set()
        for member in sorted(members):
            smallest = self._smallest_pair(member)
            if smallest in led or smallest == member == first:
                led.add(member)
        return led

    def _smallest_pair(self, image_id: int) -> int | None:
        """Return the smallest image that pairs with one, itself if that is smaller; None if time is up."""
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
