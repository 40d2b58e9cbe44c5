"""The thresholds of likelihood for the words "certain" and "likely".

Numbers only; knows no index and loads nothing. Used wherever matches are shown to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.9999
"""From here on it is a copy."""
LIKELY: Final = 0.999
"""From here on it probably is. Of 10,000 real signatures without a copy to find none named a stranger with
0.99; with parts and turns about one query in a thousand has one here: see docs/recall.md."""
