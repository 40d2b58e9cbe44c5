"""When to ask again, and when to give up. Does no I/O and no waiting.

Every call of the API may be repeated: adding, deleting and asking twice is the same as once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

BUSY: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses that mean: try again later. The last two are those of a proxy whose server is away or late."""
OnWait = Callable[[str, float], None]
"""Called before each pause with its cause, and the seconds that will have passed after it."""
_FIRST_S: Final = 0.2
_LAST_S: Final = 10.0
_DOUBLINGS: Final = 16
"""More than lead from the first pause to the last; a float overflows after a thousand."""
_MOST_ASKED_S: Final = 60.0
"""Longest wait that a server may ask for; more is taken for a mistake."""


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
        asked_s, left_s = _seconds(retry_after), self.total_s - spent_s
        if left_s <= 0 or asked_s >= left_s:
            return None
        # Spread, so that many clients do not come back at the same moment; the last try is at the very end.
        pause_s: float = min(_FIRST_S * 2 ** min(tries - 1, _DOUBLINGS), _LAST_S) * random.uniform(0.5, 1.0)
        return max(min(pause_s, left_s), asked_s)


@dataclass(slots=True)
class Retries:
    """The patience of one client, with another one until it has had any answer.

    Parameters
    ----------
    patience : Patience
    first : Patience
        With a server that has not answered yet.
    on_wait : callable of (cause, seconds) or None
    is_reached : bool
        Whether there was an answer; set by the client.
    """

    patience: Patience
    first: Patience
    on_wait: OnWait | None = None
    is_reached: bool = False

    def pause_s(self, tries: int, spent_s: float, cause: str, retry_after: str | None) -> float | None:
        """Return how long to wait before the next try, or None to give up; see `Patience.pause_s`."""
        patience = self.patience if self.is_reached else self.first
        pause_s = patience.pause_s(tries, spent_s, retry_after)
        if pause_s is not None and self.on_wait is not None:
            self.on_wait(cause, spent_s + pause_s)
        return pause_s


def _seconds(text: str | None) -> float:
    """Return the seconds of a Retry-After; 0 where there is none, or a date, which our server never sends."""
    try:
        value = float(text or "0")
    except ValueError:
        return 0.0
    return min(value, _MOST_ASKED_S) if math.isfinite(value) and value > 0 else 0.0
