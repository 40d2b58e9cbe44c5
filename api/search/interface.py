"""The search seam: how a signature becomes matches.

Routes know only `Search`. `local` asks the index of this process, `remote` asks query nodes over HTTP. The
composition root chooses; nothing else may ask which one it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.search.duplicates import DuplicatesPage, DuplicatesWanted
from iqdb_core.model import Copies, Match, QuerySignature, Signature


@dataclass(frozen=True, slots=True)
class CopiesWanted:
    """How to search for copies.

    Parameters
    ----------
    limit, offset : int
        The largest number of matches, and how many of the best to skip.
    exclude : frozenset of int
        Ids to leave out.
    turns : str or None
        Which turned copies to look for; None means the default of the search.
    has_parts : bool
        Also look for parts of the picture.
    min_score, min_likelihood, min_detail : float or None
        Matches below these are left out.
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
    """Every read access to the set of images."""

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Return the best matches, best first. Raises IndexNotReady or SearchUnavailable."""

    async def sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Do the same for the signature of a painted picture."""

    async def find_copies(self, signatures: Sequence[QuerySignature], wanted: CopiesWanted) -> Copies:
        """Return images that show what one of `signatures` shows, most likely first; raises as `query`."""

    async def duplicates(self, wanted: DuplicatesWanted) -> DuplicatesPage:
        """Return the next groups of images that show the same picture; raises as `query`."""

    async def sources(self, image_ids: Sequence[int]) -> dict[int, str]:
        """Return the known sources of images.

        Returns an empty dict while the store is away or no node answers: matches without sources are better
        than none.
        """

    async def get(self, image_id: int) -> Signature:
        """Return an image's signature; raises UnknownImage."""

    async def status(self) -> dict[str, Any]:
        """Return what `GET /status` says of the index: `images`, `applied_seq`, `lag_seq` and more.

        If no index answers, `message` says so and `images` is missing.
        """

    async def wait_applied(self, seq: int, timeout_s: float) -> None:
        """Return once every index that answers queries has applied `seq`.

        Raises
        ------
        IndexNotReady
            One of them has not caught up within `timeout_s`.
        SearchUnavailable
            None of them answers.
        """
