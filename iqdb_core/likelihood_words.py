"""What likelihoods mean in words.

Numbers only; knows no index and loads nothing. Used by whoever shows matches to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.9999
"""From here on it is a copy."""
LIKELY: Final = 0.997
"""From here on it probably is. Of 896 queries whose picture was left out none named a stranger as likely; the
likeliest had 0.995, on a picture of little detail in a border."""


def word_of(likelihood: float) -> str:
    """Return "certain", "likely" or "unsure"."""
    return "certain" if likelihood >= CERTAIN else "likely" if likelihood >= LIKELY else "unsure"
