"""Likelihoods in words."""

from __future__ import annotations

import pytest

from api.roles.command_parts.likeness import verdict_of, words_of
from iqdb_client import Match
from iqdb_core.likelihood_words import CERTAIN, LIKELY


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        (1.0, "the same picture"),
        (CERTAIN, "the same picture"),
        (LIKELY, "probably"),
        (LIKELY - 1e-9, "looks alike"),
        (0.0, "looks alike"),
        (None, ""),
    ],
)
def test_the_words_of_a_likelihood(likelihood: float | None, words: str) -> None:
    assert words_of(Match(1, 50.0, "iqdb_", None, likelihood)) == words


@pytest.mark.parametrize(
    ("likelihood", "verdict"),
    [
        (CERTAIN, "the same picture"),
        (LIKELY, "probably the same"),
        (LIKELY - 1e-9, "perhaps the same"),
        (0.5, "perhaps the same"),
        (0.499, "probably not the same"),
    ],
)
def test_the_verdict_on_two_pictures(likelihood: float, verdict: str) -> None:
    assert verdict_of(likelihood) == verdict
