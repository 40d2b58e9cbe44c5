"""A batch of images, of which a busy server may take only a part: the rest is sent again. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from iqdb_client import calls
from iqdb_client.calls import Call, Outcomes
from iqdb_client.errors import Unavailable
from iqdb_client.retrying import BUSY, Retries
from iqdb_client.values import Outcome, Picture


class Batch:
    """What is yet to be sent of a batch, and what became of the rest.

    Parameters
    ----------
    pictures, sources, wait, if_absent
        As `calls.add_many` takes them.
    retries : Retries
        Decides how often the rest is sent again; it begins anew whenever the server has taken something.

    Attributes
    ----------
    left : mapping
        Pictures to be sent, by id: all of them, then those that the server could not take.
    pause_s : float
        How long to wait before they are sent.
    """

    def __init__(
        self,
        pictures: Mapping[int, Picture],
        sources: Mapping[int, str] | None,
        retries: Retries,
        *,
        wait: bool,
        if_absent: bool,
    ) -> None:
        self._pictures = self.left = pictures
        self.pause_s = 0.0
        self._sources = sources
        self._retries = retries
        self._wait = wait
        self._if_absent = if_absent
        self._outcomes: dict[int, Outcome] = {}
        self._start_s = 0.0
        self._tries = 0

    def call(self) -> Call[Outcomes]:
        """Return the call that sends what is left."""
        return calls.add_many(self.left, sources=self._sources, wait=self._wait, if_absent=self._if_absent)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Run the call inside. Its Unavailable ends a batch that is done in part, and otherwise is raised."""
        try:
            yield
        except Unavailable:
            if not self._outcomes:
                raise
            self.left = {}

    def take(self, outcomes: Outcomes, now_s: float) -> None:
        """Note an answer that came at this time: what the server could not take is left, or given up."""
        self._outcomes |= {outcome.post_id: outcome for outcome in outcomes}
        late = {outcome.post_id: outcome for outcome in outcomes if outcome.status in BUSY}
        if self._tries == 0 or not late.keys() >= self.left.keys():
            self._start_s, self._tries = now_s, 0
        self.left = {image_id: self.left[image_id] for image_id in self.left if image_id in late}
        if not self.left:
            return
        self._tries += 1
        cause = next(iter(late.values())).reason or "the server is busy"
        spent_s = now_s - self._start_s
        pause_s = self._retries.pause_s(self._tries, spent_s, cause, outcomes.retry_after)
        if pause_s is None:
            self.left = {}
        else:
            self.pause_s = pause_s

    def outcomes(self) -> list[Outcome]:
        """Return what became of each picture, in order."""
        return [self._outcomes[image_id] for image_id in self._pictures if image_id in self._outcomes]
