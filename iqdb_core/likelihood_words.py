"""From which likelihood on a match is called what.

Numbers only; knows no index and loads nothing. Used by whoever shows matches to people.
"""

from __future__ import annotations

from typing import Final

CERTAIN: Final = 0.9999
"""From here on it is a copy."""
LIKELY: Final = 0.999
"""From here on it probably is. Of 10,000 real signatures without a copy to find none named a stranger with
0.99; with parts and turns about one query in a thousand has one here: see docs/recall.md."""
