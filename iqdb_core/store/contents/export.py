"""Everything that is stored, of one moment, a page at a time. Changes nothing in the store.

Memory is bounded by a page whatever the store holds, and writers go on meanwhile. Called by `SignatureStore`.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from iqdb_core.model import MAX_IMAGE_ID, Signature
from iqdb_core.store.backend import BEFORE_ALL
from iqdb_core.store.columns import are_signatures
from iqdb_core.store.contents.files import new_file
from iqdb_core.store.row_states import is_image_id
from iqdb_core.store.schema import IMAGES_SQLITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from iqdb_core.store.backend import Backend

_PAGE: Final = 2048
_BY_POST: Final = sa.text(
    "SELECT i.post_id, s.source, i.avglf1, i.avglf2, i.avglf3, i.sig FROM images AS i"  # noqa: S608 - a number
    " LEFT JOIN iqdb_sources AS s ON s.post_id = i.post_id"
    f" WHERE i.post_id > :after AND i.post_id <= {MAX_IMAGE_ID} ORDER BY i.post_id LIMIT :limit"
)
"""SQLite takes any text as a post_id and sorts it behind all numbers: it has no id, and may be no place to go
on from, since what is no UTF-8 is read as something else."""
_BY_ROW: Final = sa.text(
    "SELECT id, post_id, avglf1, avglf2, avglf3, sig FROM images WHERE id > :after ORDER BY id LIMIT :limit"
)
_INSERT: Final = "INSERT INTO images (id, post_id, avglf1, avglf2, avglf3, sig) VALUES (?, ?, ?, ?, ?, ?)"


class ExportedImage(NamedTuple):
    """One image with everything that is kept of it.

    Parameters
    ----------
    image_id : int
    signature : Signature
    source : str or None
    """

    image_id: int
    signature: Signature
    source: str | None


def images(backend: Backend, after: int) -> Iterator[ExportedImage]:
    """Yield every image above an id, ascending; rows that are no signatures are left out."""
    with backend.snapshot() as connection:
        while page := connection.execute(_BY_POST, {"after": after, "limit": _PAGE}).fetchall():
            after = page[-1][0]
            for row in _valid(page):
                yield ExportedImage(row[0], Signature((row[2], row[3], row[4]), row[5]), row[1])


def write_iqdb_file(backend: Backend, path: Path, progress: Callable[[int, int], None] | None) -> int:
    """Write a file of IQDB; see `SignatureStore.export_iqdb_file`."""
    done, after = 0, BEFORE_ALL
    with backend.snapshot() as connection, new_file(path) as part, closing(sqlite3.connect(part)) as target:
        total = backend.counter(connection).image_rows
        target.execute(IMAGES_SQLITE)
        while page := connection.execute(_BY_ROW, {"after": after, "limit": _PAGE}).fetchall():
            after = page[-1][0]
            target.executemany(_INSERT, [tuple(row) for row in _valid(page, key=1)])
            done += len(page)
            if progress is not None:
                progress(done, max(done, total))
        target.commit()
        (written,) = target.execute("SELECT count(*) FROM images").fetchone()
    return int(written)


def _valid(page: Sequence[Any], key: int = 0) -> list[Any]:
    """Return the rows of a page that are images: an id, and four last columns that are a signature."""
    good = are_signatures([tuple(row[2:]) for row in page])
    return [row for row, is_good in zip(page, good, strict=True) if is_good and is_image_id(row[key])]
