"""What `iqdb add` has added, so that it can be run again: which file got which id, and which version of it.

An SQLite file beside the database, or in the user's state folder for a server. An id is written down before
the image is added with it, so that whatever is killed in between is done again under the same id, and
nothing is there twice. Losing the file costs time: `recognise` finds again what is there. So it is emptied
where another store is found at its place.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from api.roles.command_parts.reasons import reason_of
from iqdb_core.errors import ConfigError, StoreUnavailable
from iqdb_core.store.address import SqliteAddress, parse_address
from iqdb_core.store.ownership import share_like

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS files (
    key TEXT PRIMARY KEY, post_id INTEGER NOT NULL UNIQUE, version TEXT
) WITHOUT ROWID
"""
_STORE_TABLE: Final = "CREATE TABLE IF NOT EXISTS store (store_id TEXT NOT NULL)"
_WAIT_S: Final = 10.0

Known = dict[str, tuple[int, str | None]]
"""Ids and added versions (None: it was never added) of files, by key."""


class Notebook:
    """The ids and versions of files; used by one thread.

    Parameters
    ----------
    path : Path
        Created if absent.

    Raises
    ------
    ConfigError
        It cannot be opened there, or is none. All methods raise StoreUnavailable where it cannot be read or
        written any more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _connected(path)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute(_TABLE)
            self._connection.execute(_STORE_TABLE)
            self._connection.execute("SELECT key, post_id, version FROM files LIMIT 0")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._connection.close()
            raise ConfigError(
                f"{path} cannot be used: {error}; is another 'iqdb add' running,"
                " or is it a file of another program?"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def belong_to(self, store_id: str) -> None:
        """Say of which store the ids are.

        What is written down of another one is forgotten; what was written down before any was named is taken
        to be of this one.
        """
        noted = self._row("SELECT store_id FROM store")
        if noted == (store_id,):
            return
        with self._in_words("written"):
            self._connection.execute("BEGIN")
            if noted is not None:
                self._connection.execute("DELETE FROM files")
            self._connection.execute("DELETE FROM store")
            self._connection.execute("INSERT INTO store VALUES (?)", (store_id,))
            self._connection.execute("COMMIT")

    def largest_id(self) -> int:
        """Return the largest id written down; -1 for none."""
        found = self._row("SELECT max(post_id) FROM files")
        return -1 if found is None or found[0] is None else int(found[0])

    def known(self, keys: Sequence[str]) -> Known:
        """Return what is known of those files that have an id."""
        found: Known = {}
        for key in keys:
            row = self._row("SELECT post_id, version FROM files WHERE key = ?", _stored(key))
            if row is not None:
                found[key] = (int(row[0]), row[1])
        return found

    def held(self, image_ids: Sequence[int]) -> set[int]:
        """Return which of these ids a file has."""
        return {one for one in image_ids if self._row("SELECT 1 FROM files WHERE post_id = ?", one)}

    def assign(self, ids: Mapping[str, int]) -> None:
        """Write down ids before anything is added with them; an id that another file had goes to this one."""
        self._write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, NULL)",
            ((_stored(key), image_id) for key, image_id in ids.items()),
        )

    def added(self, versions: Mapping[str, str]) -> None:
        """Write down that these versions of files are in."""
        self._write(
            "UPDATE files SET version = ? WHERE key = ?",
            ((version, _stored(key)) for key, version in versions.items()),
        )

    def _row(self, statement: str, *values: object) -> Any:
        with self._in_words("read"):
            return self._connection.execute(statement, values).fetchone()

    def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._in_words("written"):
            self._connection.execute("BEGIN")
            self._connection.executemany(statement, rows)
            self._connection.execute("COMMIT")

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreUnavailable(
                f"{self._path}, where 'iqdb add' notes what it has added, cannot be {what}: {error};"
                " look whether the disk is full or the file read-only, and run the same command again"
            ) from error

    def _roll_back(self) -> None:
        # What other threads have added is written down after a failure, if it can be.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _connected(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
        return sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"{path}, where 'iqdb add' notes what it has added, cannot be opened: {reason_of(error)}; make it"
            " a file that can be written, or name another place: with --db, or XDG_STATE_HOME for a server"
        ) from error


def _make(path: Path) -> None:
    """Make the file if it is missing, so that the user of the database beside it may use it as well."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return
    with suppress(OSError):  # there is no database beside it, or the mount keeps no owners and modes
        share_like(path.with_suffix(""), fd)
    os.close(fd)


def _stored(key: str) -> str | bytes:
    """Return a key as it is stored: names that are not UTF-8 as their bytes."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return os.fsencode(key)
    return key


def notebook_path(database: str, url: str) -> Path:
    """Return where the notebook of a server is, or of a database if `url` is empty.

    A file has one notebook, whichever of its names it is opened by.

    Raises
    ------
    ConfigError
        It belongs into the user's state folder, and there is none; or there can be no such database.
    """
    address = None if url else parse_address(database)
    if isinstance(address, SqliteAddress):
        return Path(f"{os.path.realpath(address.path)}.files")
    home = Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state")
    name = hashlib.sha256((url or database).encode()).hexdigest()[:16]
    return home / "iqdb" / f"{name}.files"


def _home() -> Path:
    home = os.path.expanduser("~")  # noqa: PTH111 - that of Path raises or not, by the version of Python
    if home.startswith("~"):  # a user without a name, as in a container
        raise ConfigError(
            "there is no home folder, where 'iqdb add' could note what it has added; XDG_STATE_HOME names one"
        )
    return Path(home)
