"""A copy of the whole store while it is used, as one SQLite file that IQDB and we open.

Everything is of one moment: images, feed with its tombstones, sources, lineage and counter. Called by
`SignatureStore`, and for stores of an older schema, which it takes as they are, by `opening`.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from iqdb_core.store import schema
from iqdb_core.store.address import SqliteAddress, StoreTimeouts
from iqdb_core.store.backend import BEFORE_ALL
from iqdb_core.store.contents.files import new_file
from iqdb_core.store.databases.sqlite import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iqdb_core.store.backend import Backend

_PAGE: Final = 2048
_TABLES: Final = (
    ("images", "id", ("id", "post_id", "avglf1", "avglf2", "avglf3", "sig")),
    ("iqdb_feed", "seq", ("seq", "post_id", "revision", "state", "row_id", "digest")),
    ("iqdb_sources", "post_id", ("post_id", "source")),
    ("iqdb_lineage", "seq", ("seq", "token")),
    (
        "iqdb_store",
        "one",
        ("one", "store_id", "head_seq", "live_count", "max_revision", "image_rows", "image_mix"),
    ),
)
_MADE_ANEW: Final = ("iqdb_lineage", "iqdb_store")
"""Tables in which a new store has rows of its own."""


def back_up(backend: Backend, path: Path, progress: Callable[[int, int], None] | None) -> int:
    """Write a backup; see `SignatureStore.backup`."""
    with new_file(path) as part:
        if not backend.copy_file(part, progress):
            _create(part)
            with closing(sqlite3.connect(part)) as target, target:
                _copy_rows(backend, target, progress)
        with closing(sqlite3.connect(part)) as copy:
            # The copy of a file in use says that it has a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            (live,) = copy.execute("SELECT live_count FROM iqdb_store").fetchone()
    return int(live)


def _create(path: Path) -> None:
    """Make an empty store."""
    empty = SqliteBackend(SqliteAddress(path), StoreTimeouts())
    try:
        empty.prepare()
        with empty.upgrading() as connection:
            schema.create_or_migrate(connection, None)
    finally:
        empty.close()


def _copy_rows(
    backend: Backend, target: sqlite3.Connection, progress: Callable[[int, int], None] | None
) -> None:
    """Copy every table of one snapshot, a page at a time."""
    with backend.snapshot() as connection:
        total, done = backend.counter(connection).image_rows, 0
        there = sa.inspect(connection).get_table_names()
        for table, key, columns in _TABLES:
            if table not in there:  # its schema is older: the copy's is as a migration would leave it
                continue
            if table in _MADE_ANEW:
                target.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
            names = ", ".join(columns)
            read = sa.text(
                f"SELECT {names} FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT {_PAGE}"  # noqa: S608
            )
            write = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
            after, place = BEFORE_ALL, columns.index(key)
            while page := connection.execute(read, {"after": after}).fetchall():
                after = page[-1][place]
                target.executemany(write, [tuple(row) for row in page])
                if progress is not None and table == "images":
                    done += len(page)
                    progress(done, max(done, total))
