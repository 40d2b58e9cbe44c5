"""What likelihoods mean in words.

Numbers only; knows no index and loads nothing. Used by whoever shows matches to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.9999
"""From here on it is a copy."""
LIKELY: Final = 0.99
"""From here on it probably is. Of 13,000 queries without a picture to find none named a stranger as likely;
docs/recall.md says how that was counted."""


def word_of(likelihood: float) -> str:
    """Return "certain", "likely" or "unsure"."""
    return "certain" if likelihood >= CERTAIN else "likely" if likelihood >= LIKELY else "unsure"
