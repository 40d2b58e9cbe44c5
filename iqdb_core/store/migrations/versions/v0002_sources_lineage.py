"""The second schema: where images come from, and marks that tell one history of the store from another."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables; what happened before gets a mark of its own."""
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "iqdb_sources",
        sa.Column("post_id", integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text(), nullable=False),
    )
    lineage = op.create_table(
        "iqdb_lineage",
        sa.Column("seq", integer, primary_key=True, autoincrement=False),
        sa.Column("token", sa.Text(), nullable=False),
    )
    op.bulk_insert(lineage, [{"seq": 0, "token": secrets.token_hex(8)}])
