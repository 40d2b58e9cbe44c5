"""What likelihoods mean in words.

Numbers only; knows no index and loads nothing. Used by whoever shows matches to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.99
"""From here on it is a copy, but for one case in a hundred or so."""
LIKELY: Final = 0.9
"""From here on it probably is: of a thousand pictures that are not in the index, fewer than one finds a
stranger as likely."""


def word_of(likelihood: float) -> str:
    """Return "certain", "likely" or "unsure"."""
    return "certain" if likelihood >= CERTAIN else "likely" if likelihood >= LIKELY else "unsure"
