"""All of our tables in a file that has none of them, at once and without Alembic.

What the migrations make of such a file, in the same words; loading Alembic for it would take a third of a
second and 20 MB of a server's memory. Later versions are reached by migrations alone. Called by `schema`.
"""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES: Final = (
    """CREATE TABLE iqdb_schema_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT iqdb_schema_version_pkc PRIMARY KEY (version_num)
    )""",
    """CREATE TABLE iqdb_feed (
        seq INTEGER NOT NULL, post_id INTEGER NOT NULL, revision INTEGER NOT NULL, state SMALLINT NOT NULL,
        row_id INTEGER, digest INTEGER NOT NULL,
        PRIMARY KEY (seq), UNIQUE (post_id)
    )""",
    """CREATE TABLE iqdb_store (
        one INTEGER NOT NULL CHECK (one = 1),
        store_id TEXT NOT NULL, head_seq INTEGER NOT NULL, live_count INTEGER NOT NULL,
        max_revision INTEGER NOT NULL, image_rows INTEGER NOT NULL, image_mix INTEGER NOT NULL,
        PRIMARY KEY (one)
    )""",
    """CREATE TABLE iqdb_copy (
        source TEXT NOT NULL, source_cursor INTEGER NOT NULL, target_seq INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        PRIMARY KEY (source)
    )""",
    "CREATE TABLE iqdb_sources ( post_id INTEGER NOT NULL, source TEXT NOT NULL, PRIMARY KEY (post_id) )",
    "CREATE TABLE iqdb_lineage ( seq INTEGER NOT NULL, token TEXT NOT NULL, PRIMARY KEY (seq) )",
)


def create(connection: sa.Connection, version: str, images: str | None) -> None:
    """Create our tables, inside the caller's transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    version : str
        The schema's, which the file is marked with.
    images : str or None
        The statement that creates IQDB's own table, if it is missing.
    """
    for statement in _statements(images):
        connection.execute(sa.text(statement))
    connection.execute(
        sa.text("INSERT INTO iqdb_schema_version (version_num) VALUES (:version)"), {"version": version}
    )
    connection.execute(
        sa.text("INSERT INTO iqdb_store VALUES (1, :store_id, 0, 0, 0, 0, 0)"), {"store_id": uuid.uuid4().hex}
    )
    connection.execute(
        sa.text("INSERT INTO iqdb_lineage VALUES (0, :token)"), {"token": secrets.token_hex(8)}
    )


def _statements(images: str | None) -> Iterator[str]:
    version, *others = _TABLES
    yield version
    if images is not None:
        yield images
    yield from others
