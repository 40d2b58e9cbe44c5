"""Which store is behind this address? Opens, creates, upgrades or takes over a database.

Does so again for a file that was put in the place of one that is open. Called by composition roots.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from iqdb_core.errors import StoreError, StoreIncomplete, StoreInvalid
from iqdb_core.store import schema, takeover
from iqdb_core.store.address import PostgresAddress, SqliteAddress, StoreTimeouts, parse_address
from iqdb_core.store.databases.sqlite import SqliteBackend
from iqdb_core.store.signature_store import SignatureStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iqdb_core.store.backend import Backend
    from iqdb_core.store.receiver import Receiver

_log = logging.getLogger(__name__)

_DEFAULT_TIMEOUTS = StoreTimeouts()


def open_store(
    url: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    timeouts: StoreTimeouts = _DEFAULT_TIMEOUTS,
    receiver: Receiver | None = None,
) -> SignatureStore:
    """Open a store, making the database one if it is not.

    Parameters
    ----------
    url : str
        `sqlite:///path`, a bare path, or `postgresql://...`. A missing SQLite file is created. A file of
        IQDB gets our tables beside its own in one transaction; nothing of the original is changed.
    progress : callable of (done, total), optional
        Called while a file is taken over or compared, with numbers of images.
    timeouts : StoreTimeouts
    receiver : Receiver, optional
        Is told of an existing store before it is compared with what other programs did. Gets the images of a
        file that is opened for the first time, while they become a feed.

    Raises
    ------
    WrongUsage
        The address names no database of these kinds.
    StoreInvalid
        Not a database, not ours or IQDB's, from a newer version, read-only, or in a directory that is not
        there.
    StoreUnavailable
        No answer, or another process holds it locked.
    """
    backend = make_backend(parse_address(url), timeouts)
    try:
        make_current(backend, progress, receiver)
        return SignatureStore(backend)
    except BaseException:
        backend.close()
        raise


def back_up_older(url: str, path: Path, progress: Callable[[int, int], None] | None = None) -> int | None:
    """Back up a store of an older schema without upgrading it, so that there is a way back.

    Parameters
    ----------
    url : str
        As for `open_store`; a missing database is not created.
    path : Path
        Must not exist, and does so only once it is complete. From an SQLite file it has the schema of the
        store, from Postgres the newest.
    progress : callable of (done, total), optional
        In pages or images.

    Returns
    -------
    int or None
        Live images in it. None if this is no store of an older schema: `open_store` says what it is, and
        `SignatureStore.backup` backs it up.

    Raises
    ------
    WrongUsage
        The address names no database of these kinds.
    StoreInvalid, StoreUnavailable
        As from `SignatureStore.backup`.
    """
    from iqdb_core.store.contents.backup import back_up  # noqa: PLC0415 - as in SignatureStore.backup

    backend = make_backend(parse_address(url), _DEFAULT_TIMEOUTS)
    try:
        try:
            with backend.reading() as connection:
                found = schema.version(connection, backend.name)
        except StoreInvalid:
            return None
        if found is None or found == schema.NEWEST_VERSION:
            return None
        return back_up(backend, path, progress)
    finally:
        backend.close()


def read_store_id(url: str, timeouts: StoreTimeouts = _DEFAULT_TIMEOUTS) -> str:
    """Return the id of the store at an address; nothing is created or upgraded.

    Parameters
    ----------
    url : str
        As for `open_store`.
    timeouts : StoreTimeouts

    Returns
    -------
    str
        '' where there is no store yet, or one that has to be upgraded first.

    Raises
    ------
    WrongUsage, StoreInvalid, StoreUnavailable
        As from `open_store`.
    """
    backend = make_backend(parse_address(url), timeouts)
    try:
        with backend.reading() as connection:
            is_current = schema.version(connection, backend.name) == schema.NEWEST_VERSION
            return backend.store_id(connection) if is_current else ""
    finally:
        backend.close()


def make_backend(address: SqliteAddress | PostgresAddress, timeouts: StoreTimeouts) -> Backend:
    """Return the backend for an address, without opening the database."""
    if isinstance(address, SqliteAddress):
        return SqliteBackend(address, timeouts, partial(_make_successor_current, address, timeouts))
    # Whoever never names a Postgres database never loads its driver.
    from iqdb_core.store.databases.postgres import PostgresBackend  # noqa: PLC0415

    return PostgresBackend(address, timeouts)


def _make_successor_current(address: SqliteAddress, timeouts: StoreTimeouts) -> None:
    """Open a file that replaced an open one, as at a start, and close it again.

    Raises
    ------
    StoreInvalid
        It cannot be served, whatever is in it; who has its predecessor open is not to fail because of that.
    StoreUnavailable
        It is being written, or was taken away again.
    """
    backend = SqliteBackend(address, timeouts, may_create=False)
    try:
        _expect_images(backend)
        make_current(backend, None)
        with backend.reading() as connection:
            (head_seq, *_), _, _ = backend.before_writes(connection, [])
            backend.marks(connection, head_seq)
            backend.changes(connection, head_seq - 1, 1)
        backend.checkpoint_wal()  # its WAL would be taken for that of the file before
    except StoreError:
        raise
    except Exception as error:  # other programs may have stored any value
        raise StoreInvalid(f"{backend.name} cannot be read ({error!r})") from error
    finally:
        backend.close()


def _expect_images(backend: Backend) -> None:
    with backend.reading() as connection:
        if not schema.check_images(connection, backend.name):  # it may be written just now
            raise StoreIncomplete(f"{backend.name} has no table images")


def make_current(
    backend: Backend, progress: Callable[[int, int], None] | None, receiver: Receiver | None = None
) -> None:
    """Give the database our newest tables, and the feed what other programs did meanwhile."""
    backend.prepare()
    with backend.reading() as connection:
        is_current = schema.version(connection, backend.name) == schema.NEWEST_VERSION
        if is_current and receiver is not None:
            receiver.expect(backend.store_id(connection), backend.counter(connection).head_seq)
        in_step = is_current and (
            not backend.may_change_elsewhere or takeover.is_in_step(backend, connection)
        )
    if in_step:
        return
    with backend.upgrading() as connection:
        # Another process may have been faster; what is already done is not done again.
        found = schema.version(connection, backend.name)
        if found != schema.NEWEST_VERSION:
            schema.check_images(connection, backend.name)
            schema.create_or_migrate(connection, found)
        # One that was faster may write already: what it writes is no change by another program.
        backend.keep_writers_out(connection)
        changes = 0
        if found is None or not takeover.is_in_step(backend, connection):
            changes = takeover.bring_in_step(backend, connection, progress, receiver)
        if changes:
            _log.info("%s changes by other programs taken in", changes, extra={"action": "taken_over"})
