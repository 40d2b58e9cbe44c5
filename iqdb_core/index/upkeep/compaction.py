"""Decides which segments to merge next.

Pure arithmetic on counts: reads no file and changes nothing. Called by `ImageIndex`.

Segments below full size fall into tiers; the sizes of neighbouring tiers differ by the fan-out. Once a tier
has as many segments as the fan-out, they are merged into one of the next tier. Segments that together fill
one are merged into a full one. A segment with many dead images is rewritten alone, which frees their memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iqdb_core.index.segment.layout import SEGMENT_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iqdb_core.index.options import IndexOptions
    from iqdb_core.index.segment.member import Member

FULL_IMAGES: Final = SEGMENT_IMAGES * 3 // 4
"""A segment with at least this many live images counts as full and is not merged."""

OVERDUE: Final = 1.25
"""Updates wait for merges above this many times the usual maximum of dead images or small segments."""


def choose(members: Sequence[Member], options: IndexOptions) -> list[Member]:
    """Return the members that should be merged into new segments now; empty if there is nothing to do.

    Parameters
    ----------
    members : sequence of Member
        All members of a snapshot.
    options : IndexOptions

    Returns
    -------
    list of Member
        If any members have no live images, only these: dropping them costs nothing.
    """
    dead = [member for member in members if member.n_alive == 0]
    if dead:
        return dead
    unfilled = [member for member in members if member.n_alive < FULL_IMAGES]
    for tier in _tiers(unfilled, options):
        if len(tier) >= options.merge_fan_out:
            return _within_one(tier)
    filling = _filling_one([member for member in unfilled if member.n_alive >= options.head_capacity])
    if filling:
        return filling
    wasteful = [member for member in members if member.n_dead > options.max_dead_share * member.n_images]
    return [max(wasteful, key=lambda member: member.n_dead)] if wasteful else []


def is_overdue(members: Sequence[Member], options: IndexOptions) -> bool:
    """Return whether merging is so far behind that updates should wait for it.

    Updates at full speed can be faster than the merging thread. Without this limit, dead images and the
    number of segments would keep growing.
    """
    n_dead = sum(member.n_dead for member in members)
    n_images = sum(member.n_images for member in members)
    n_unfilled = sum(member.n_alive < FULL_IMAGES for member in members)
    return (
        n_dead > OVERDUE * options.max_dead_share * n_images + SEGMENT_IMAGES // 2
        or n_unfilled > OVERDUE * options.merge_fan_out * len(_tiers([], options))
    )


def _tiers(members: list[Member], options: IndexOptions) -> list[list[Member]]:
    """Return the members below full size, grouped into tiers, smallest first."""
    tiers = []
    lower, upper = 0, max(options.head_capacity * options.merge_fan_out // 2, 2)
    while lower < FULL_IMAGES:
        tiers.append([member for member in members if lower <= member.n_alive < upper])
        lower, upper = upper, upper * options.merge_fan_out
    return tiers


def _within_one(members: list[Member]) -> list[Member]:
    """Return as many of the smallest members, at least two, as fit into one segment."""
    taken: list[Member] = []
    n_alive = 0
    for member in sorted(members, key=lambda member: member.n_alive):
        n_alive += member.n_alive
        if len(taken) >= 2 and n_alive > SEGMENT_IMAGES:
            break
        taken.append(member)
    return taken


def _filling_one(members: list[Member]) -> list[Member]:
    """Return the fewest members that together fill a segment; empty if all together are too small."""
    taken: list[Member] = []
    n_alive = 0
    for member in sorted(members, key=lambda member: member.n_alive, reverse=True):
        taken.append(member)
        n_alive += member.n_alive
        if n_alive >= SEGMENT_IMAGES:
            return taken
    return []
