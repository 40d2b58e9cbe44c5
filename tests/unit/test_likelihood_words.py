"""Likelihoods in words."""

from __future__ import annotations

import pytest

from api.roles.people.likeness import words_of
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
