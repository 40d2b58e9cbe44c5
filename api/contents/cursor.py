"""The cursor of a mirror as text: a seq of the feed, and the history that it belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from iqdb_core.errors import IqdbError
from iqdb_core.model import FeedState

_FORM: Final = re.compile(r"(\d{1,19})(?:\.([0-9A-Za-z_-]{1,64}))?", re.ASCII)
_NO_MARK: Final = "0"


class InvalidCursor(IqdbError):
    """Text that is not a cursor."""


class OtherHistory(IqdbError):
    """The store was put back to another state: changes that a mirror has read may not be in its history."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last seq that a mirror has, and the mark of its history.

    Parameters
    ----------
    seq : int
        0 for an empty mirror.
    token : str or None
        None if the history is not checked.
    """

    seq: int
    token: str | None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Parse a cursor: the `next` of an answer, or a bare seq; None means the beginning.

        Raises
        ------
        InvalidCursor
        """
        if text is None:
            return cls(0, None)
        match = _FORM.fullmatch(text)
        if match is None or int(match[1]) >= 2**63:
            raise InvalidCursor("since must be the 'next' of the previous answer, or 0")
        return cls(int(match[1]), match[2])

    def check(self, feed: FeedState) -> None:
        """Raise OtherHistory if `feed` is from another history than this cursor."""
        before = feed.before.token if feed.before else _NO_MARK
        if self.seq > feed.head_seq or (self.seq and self.token is not None and self.token != before):
            raise OtherHistory(
                "the store was put back to another state; begin again without 'since', with an empty mirror"
            )

    def after(self, feed: FeedState, last_seq: int | None) -> str:
        """Return the cursor after a batch that ends at `last_seq`, None for an empty one."""
        mark = feed.before if last_seq is None else feed.after
        seq = self.seq if last_seq is None else last_seq
        return f"{seq}.{mark.token if mark else _NO_MARK}"
