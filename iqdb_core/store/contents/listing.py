"""Which images are here? Runs one statement per page; changes nothing.

Called by `SignatureStore`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa

_LISTED: Final = sa.text(
    "SELECT f.post_id, f.seq, f.revision, s.source FROM iqdb_feed AS f"
    " LEFT JOIN iqdb_sources AS s ON s.post_id = f.post_id"
    " WHERE f.post_id > :after AND f.state = 1 ORDER BY f.post_id LIMIT :limit"
)


class ListedImage(NamedTuple):
    """A live image.

    Parameters
    ----------
    image_id : int
    seq : int
        Of its newest change.
    revision : int
        When that was accepted, in microseconds; 0 if another program wrote it.
    source : str or None
        Where it comes from, if that was told.
    """

    image_id: int
    seq: int
    revision: int
    source: str | None


def after(connection: sa.Connection, image_id: int, limit: int) -> list[ListedImage]:
    """Return the next live images above an id, in ascending order."""
    rows = connection.execute(_LISTED, {"after": image_id, "limit": limit})
    return [ListedImage(*row) for row in rows]
