"""How sure an answer is, in words."""

from __future__ import annotations

from iqdb_client import Match
from iqdb_core.likelihood_words import CERTAIN, LIKELY


def words_of(match: Match) -> str:
    """Return what a match's likelihood means."""
    if match.likelihood is None:
        return ""
    if match.likelihood >= CERTAIN:
        return "the same picture"
    return "probably" if match.likelihood >= LIKELY else "looks alike"
