"""Which tables are ours, which is IQDB's, and which version of ours is this? Touches no row of `images`.

Table `images` is IQDB's, in its literal form, so that IQDB opens what we create. Ours stand beside it:
`iqdb_feed` (one row per post ever seen), `iqdb_store` (the counter row), `iqdb_sources` (where images come
from), `iqdb_lineage` (marks of this store's history), `iqdb_copy` (how far a bulk copy into this store has
come) and `iqdb_schema_version` (Alembic's). Called by whatever opens or makes a database.
"""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from iqdb_core.errors import StoreInvalid
from iqdb_core.store.databases import sqlite_fresh

IMAGES: Final = "images"
IMAGES_SQLITE: Final = """CREATE TABLE images (
            id INTEGER PRIMARY KEY NOT NULL,
            post_id INTEGER UNIQUE NOT NULL,
            avglf1 REAL NOT NULL, avglf2 REAL NOT NULL, avglf3 REAL NOT NULL,
            sig BLOB NOT NULL
        )"""
"""IQDB's own words, to the letter."""
VERSION_TABLE: Final = "iqdb_schema_version"
NEWEST_VERSION: Final = "0002"
"""The newest of `migrations/versions`; named here so that opening a current store need not load Alembic."""

_KNOWN_VERSIONS: Final = ("0001", "0002")

_COLUMNS: Final = {
    "id": "integer",
    "post_id": "integer",
    "avglf1": "real",
    "avglf2": "real",
    "avglf3": "real",
    "sig": "blob",
}
_KINDS: Final = (
    (re.compile(r"INT", re.IGNORECASE), "integer"),
    (re.compile(r"REAL|DOUBLE|FLOAT", re.IGNORECASE), "real"),
    (re.compile(r"BLOB|BYTEA", re.IGNORECASE), "blob"),
)


def version(connection: sa.Connection, name: str) -> str | None:
    """Return the version of our tables, None when there are none; `name` is the database's, for the error.

    Raises
    ------
    StoreInvalid
        A version this program does not know: the database was made by a newer one.
    """
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if found is not None and found not in _KNOWN_VERSIONS:
        raise StoreInvalid(
            f"{name} has schema {found}, which is newer than this program knows (up to {NEWEST_VERSION}):"
            " update the program"
        )
    return found


def check_images(connection: sa.Connection, name: str) -> bool:
    """Tell whether `images` exists.

    Raises
    ------
    StoreInvalid
        It exists, and is not IQDB's.
    """
    inspector = sa.inspect(connection)
    if not inspector.has_table(IMAGES):
        return False
    found = {column["name"]: _kind(str(column["type"])) for column in inspector.get_columns(IMAGES)}
    # The indexes tell more than the constraints, which on SQLite are read from the text of the definition.
    indexes = inspector.get_indexes(IMAGES, include_auto_indexes=True)
    if (
        found != _COLUMNS
        or inspector.get_pk_constraint(IMAGES)["constrained_columns"] != ["id"]
        or not any(index["unique"] and index["column_names"] == ["post_id"] for index in indexes)
    ):
        raise StoreInvalid(f"{name} has a table images that is not IQDB's: it belongs to another program")
    return True


def _kind(type_name: str) -> str:
    return next((kind for pattern, kind in _KINDS if pattern.search(type_name)), type_name)


def create_or_migrate(connection: sa.Connection, found: str | None) -> None:
    """Bring our tables from the version that was found, or none, to the newest; see `migrate_schema`."""
    if found is None and connection.dialect.name == "sqlite":
        has_images = sa.inspect(connection).has_table(IMAGES)
        sqlite_fresh.create(connection, NEWEST_VERSION, None if has_images else IMAGES_SQLITE)
    else:
        migrate_schema(connection)


def migrate_schema(connection: sa.Connection, to: str = NEWEST_VERSION) -> None:
    """Bring our tables to a version, inside the caller's transaction."""
    # Alembic takes a third of a second to import, and most starts find a current schema or none.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "iqdb_core.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
