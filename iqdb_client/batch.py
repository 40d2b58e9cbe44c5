"""A batch of images, of which a busy server may take a part: the others are sent again. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from iqdb_client import calls
from iqdb_client.calls import Call
from iqdb_client.errors import Unavailable
from iqdb_client.retrying import BUSY
from iqdb_client.values import Outcome, Picture


class Batch:
    """What is yet to be sent of a batch, and what became of the rest.

    Parameters
    ----------
    pictures, sources, wait, if_absent
        As `calls.add_many` takes them.

    Attributes
    ----------
    left : mapping
        Pictures to be sent, by id: all of them, then those that the server had no room for.
    """

    def __init__(
        self,
        pictures: Mapping[int, Picture],
        sources: Mapping[int, str] | None,
        *,
        wait: bool,
        if_absent: bool,
    ) -> None:
        self._pictures = self.left = pictures
        self._sources = sources
        self._wait = wait
        self._if_absent = if_absent
        self._outcomes: dict[int, Outcome] = {}

    def call(self) -> Call[list[Outcome]]:
        """Return the call that sends what is left."""
        return calls.add_many(self.left, sources=self._sources, wait=self._wait, if_absent=self._if_absent)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Run the call inside; what gives up ends the batch if a part of it is done, and else is raised."""
        try:
            yield
        except Unavailable:
            if not self._outcomes:
                raise
            self.left = {}

    def take(self, outcomes: list[Outcome]) -> None:
        """Note an answer. Those that were left out are sent again, as long as each time some are not."""
        self._outcomes |= {outcome.post_id: outcome for outcome in outcomes}
        late = {outcome.post_id for outcome in outcomes if outcome.status in BUSY}
        is_stuck = late >= self.left.keys()
        self.left = {} if is_stuck else {one: self.left[one] for one in self.left if one in late}

    def outcomes(self) -> list[Outcome]:
        """Return what became of each picture, in order."""
        return [self._outcomes[image_id] for image_id in self._pictures if image_id in self._outcomes]
