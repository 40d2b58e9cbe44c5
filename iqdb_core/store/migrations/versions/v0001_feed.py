"""The first schema: IQDB's table where it is missing, feed, counter row, progress of bulk copies."""

from __future__ import annotations

import uuid
from typing import Final

import sqlalchemy as sa
from alembic import op

from iqdb_core.store.schema import IMAGES_SQLITE

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IMAGES_POSTGRES: Final = """CREATE TABLE images (
            id BIGINT PRIMARY KEY,
            post_id BIGINT UNIQUE NOT NULL,
            avglf1 DOUBLE PRECISION NOT NULL,
            avglf2 DOUBLE PRECISION NOT NULL,
            avglf3 DOUBLE PRECISION NOT NULL,
            sig BYTEA NOT NULL
        )"""


def upgrade() -> None:
    """Create what is missing."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    # Only a column of type INTEGER is the rowid on SQLite.
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    if not sa.inspect(connection).has_table("images"):
        op.execute(IMAGES_SQLITE if is_sqlite else _IMAGES_POSTGRES)
        if not is_sqlite:
            # 240 bytes never compress nor leave the row; trying would cost time on every write.
            op.execute("ALTER TABLE images ALTER COLUMN sig SET STORAGE PLAIN")
    op.create_table(
        "iqdb_feed",
        sa.Column("seq", integer, primary_key=True, autoincrement=False),
        sa.Column("post_id", integer, nullable=False, unique=True),
        sa.Column("revision", integer, nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("row_id", integer),
        sa.Column("digest", integer, nullable=False),
    )
    store = op.create_table(
        "iqdb_store",
        sa.Column("one", sa.Integer(), sa.CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
        sa.Column("store_id", sa.Text(), nullable=False),
        sa.Column("head_seq", integer, nullable=False),
        sa.Column("live_count", integer, nullable=False),
        sa.Column("max_revision", integer, nullable=False),
        sa.Column("image_rows", integer, nullable=False),
        sa.Column("image_mix", integer, nullable=False),
    )
    op.create_table(
        "iqdb_copy",
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("source_cursor", integer, nullable=False),
        sa.Column("target_seq", integer, nullable=False),
        sa.Column("skipped", integer, nullable=False),
    )
    op.bulk_insert(
        store,
        [
            {
                "one": 1,
                "store_id": uuid.uuid4().hex,
                "head_seq": 0,
                "live_count": 0,
                "max_revision": 0,
                "image_rows": 0,
                "image_mix": 0,
            }
        ],
    )
