"""Likelihoods in words."""

from __future__ import annotations

import pytest

from iqdb_core.likelihood_words import CERTAIN, LIKELY, word_of


@pytest.mark.parametrize(
    ("likelihood", "word"),
    [(1.0, "certain"), (CERTAIN, "certain"), (LIKELY, "likely"), (LIKELY - 1e-9, "unsure"), (0.0, "unsure")],
)
def test_the_word_of_a_likelihood(likelihood: float, word: str) -> None:
    assert word_of(likelihood) == word
