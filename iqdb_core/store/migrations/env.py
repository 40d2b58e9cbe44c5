"""How does Alembic reach the database? Through the connection and transaction that `schema` hands over."""

from __future__ import annotations

from alembic import context

from iqdb_core.store.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    # Without this Alembic commits by itself on SQLite, and a takeover would not be one transaction.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
