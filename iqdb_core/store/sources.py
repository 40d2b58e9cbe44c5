"""Where does an image come from? A name, path or page for those images that were given one.

A table of its own, so that IQDB's stays as it is; an image's source goes with the image. Statements that both
databases understand; opens no transaction. Called by `writing`, `takeover` and `SignatureStore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_IDS_PER_STATEMENT: Final = 500
"""Below SQLite's oldest limit of 999 parameters."""
_IDS: Final[sa.BindParameter[int]] = sa.bindparam("ids", expanding=True)
_READ: Final = sa.text("SELECT post_id, source FROM iqdb_sources WHERE post_id IN :ids").bindparams(_IDS)
_REMOVE: Final = sa.text("DELETE FROM iqdb_sources WHERE post_id IN :ids").bindparams(_IDS)
_PUT: Final = sa.text(
    "INSERT INTO iqdb_sources (post_id, source) VALUES (:post_id, :source)"
    " ON CONFLICT (post_id) DO UPDATE SET source = excluded.source"
)


def read(connection: sa.Connection, image_ids: Sequence[int]) -> dict[int, str]:
    """Return the sources of those images that have one, by id."""
    found: dict[int, str] = {}
    for some in _pieces(image_ids):
        found.update((row[0], row[1]) for row in connection.execute(_READ, {"ids": some}))
    return found


def write(connection: sa.Connection, sources: Mapping[int, str]) -> None:
    """Set the sources of live images, inside a write transaction; an empty text removes one."""
    given = [{"post_id": image_id, "source": source} for image_id, source in sources.items() if source]
    if given:
        connection.execute(_PUT, given)
    remove(connection, [image_id for image_id, source in sources.items() if not source])


def remove(connection: sa.Connection, image_ids: Sequence[int]) -> None:
    """Forget sources, inside a write transaction; those that are not there are no error."""
    for some in _pieces(image_ids):
        connection.execute(_REMOVE, {"ids": some})


def _pieces(image_ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(image_ids), _IDS_PER_STATEMENT):
        yield list(image_ids[start : start + _IDS_PER_STATEMENT])
