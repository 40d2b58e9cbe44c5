"""The search seam: how a signature becomes matches.

`Search` is what the routes know. `local` asks the index in this process, `remote` asks query nodes over HTTP.
The composition root chooses; nothing else may ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.search.duplicates import DuplicatesPage, DuplicatesWanted
from iqdb_core.model import Asked, Copies, Match, Signature


@dataclass(frozen=True, slots=True)
class CopiesWanted:
    """How to search for copies.

    Parameters
    ----------
    limit, offset : int
        Most matches, and how many are passed over before the first.
    exclude : frozenset of int
        Ids to leave out.
    turns : str or None
        Which turned copies to look for; None leaves it to the search.
    has_parts : bool
        Look for parts of the picture, too.
    min_score, min_likelihood, min_detail : float or None
        Matches below are left out.
    """

    limit: int
    offset: int = 0
    exclude: frozenset[int] = frozenset()
    turns: str | None = None
    has_parts: bool = True
    min_score: float | None = None
    min_likelihood: float | None = None
    min_detail: float | None = None


class Search(Protocol):
    """Everything that reads the set of images."""

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Return the best matches, best first. Raises IndexNotReady or SearchUnavailable."""

    async def sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Do the same for the signature of a painted picture."""

    async def find_copies(self, asked: Sequence[Asked], wanted: CopiesWanted) -> Copies:
        """Return the images that show what one of the signatures does, likeliest first; raises as `query`."""

    async def duplicates(self, wanted: DuplicatesWanted) -> DuplicatesPage:
        """Return the next groups of images that show the same picture; raises as `query`."""

    async def sources(self, image_ids: Sequence[int]) -> dict[int, str]:
        """Return where images come from, of those of which it is known.

        Nothing while the store is away, or nobody answers: what is told of them elsewhere is worth more.
        """

    async def get(self, image_id: int) -> Signature:
        """Return an image's signature; raises UnknownImage."""

    async def status(self) -> dict[str, Any]:
        """Return what `GET /status` says of the index: `images`, `applied_seq`, `lag_seq` and more.

        Without an index that answers, `message` says so and `images` is missing.
        """

    async def wait_applied(self, seq: int, timeout_s: float) -> None:
        """Return once every index that answers queries has applied `seq`.

        Raises
        ------
        IndexNotReady
            One has not caught up within `timeout_s`.
        SearchUnavailable
            None answers at all.
        """
