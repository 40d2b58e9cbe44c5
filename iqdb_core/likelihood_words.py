"""The thresholds of likelihood for the words "certain" and "likely".

Numbers only; knows no index and loads nothing. Used wherever matches are shown to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.9999
"""From this likelihood on a match is called certain."""
LIKELY: Final = 0.999
"""From this likelihood on a match is called likely. Of 10,000 real signatures without a copy in the index,
none had a false match of 0.99; with parts and turns fewer than one query in a thousand reach this, unless the
index has other screenshots of the same app. See docs/recall.md."""
