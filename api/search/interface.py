"""The search seam: how a signature becomes matches.

`Search` is what the routes know. `local` asks the index in this process, `remote` asks query nodes over HTTP.
The composition root chooses; nothing else may ask.
"""

from __future__ import annotations

from typing import Any, Protocol

from iqdb_core.model import Match, Signature


class Search(Protocol):
    """Everything that reads the set of images."""

    async def query(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Return the best matches, best first. Raises IndexNotReady or SearchUnavailable."""

    async def sketch(self, signature: Signature, limit: int, min_score: float | None) -> list[Match]:
        """Do the same for the signature of a painted picture."""

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
