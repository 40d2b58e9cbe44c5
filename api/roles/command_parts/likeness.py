"""How sure an answer is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from iqdb_core.likelihood_words import CERTAIN, LIKELY

if TYPE_CHECKING:
    from iqdb_client import Match

EVEN: Final = 0.5
"""From here on two pictures rather show the same than not."""


def words_of(match: Match) -> str:
    """Return what the likelihood of a match of a search means."""
    if match.likelihood is None:
        return ""
    if match.likelihood >= CERTAIN:
        return "the same picture"
    return "probably" if match.likelihood >= LIKELY else "looks alike"


def verdict_of(likelihood: float) -> str:
    """Return in words whether two pictures that were compared show the same."""
    if likelihood >= CERTAIN:
        return "the same picture"
    if likelihood >= LIKELY:
        return "probably the same"
    return "perhaps the same" if likelihood >= EVEN else "probably not the same"
