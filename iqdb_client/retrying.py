"""When to ask again, and when to give up. Does no I/O and no waiting.

Every call of the API may be repeated: adding, deleting and asking twice is the same as once.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Answers that say: later."""
_FIRST_S: Final = 0.2
_LAST_S: Final = 10.0
_MOST_ASKED_S: Final = 60.0
"""A server may ask for so much patience at once; more is taken for a mistake."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on trying.

    Parameters
    ----------
    total_s : float
        Seconds from the first try, waiting included, after which the last failure is raised; 0 never repeats.
    """

    total_s: float = 60.0

    def pause_s(self, tries: int, spent_s: float, retry_after: str | None = None) -> float | None:
        """Return how long to wait before the next try, or None to give up.

        Parameters
        ----------
        tries : int
            Tries so far, at least 1.
        spent_s : float
            Seconds since the first.
        retry_after : str or None
            The answer's header of that name.
        """
        asked_s = _seconds(retry_after)
        # Spread, so that many clients do not come back at the same moment.
        pause_s = min(_FIRST_S * 2 ** (tries - 1), _LAST_S) * random.uniform(0.5, 1.0)
        pause_s = max(pause_s, asked_s)
        return pause_s if spent_s + pause_s <= self.total_s else None


def _seconds(text: str | None) -> float:
    """Return the seconds of a Retry-After; 0 where there is none, or a date, which our server never sends."""
    try:
        value = float(text or "0")
    except ValueError:
        return 0.0
    return min(value, _MOST_ASKED_S) if math.isfinite(value) and value > 0 else 0.0
